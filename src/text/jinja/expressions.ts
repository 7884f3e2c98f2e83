/**
 * Expressions. Operator precedence is Python's, except `**` (left-associative, below unary signs). Filters
 * and tests bind to a signed value: `-1|abs` is 1.
 *
 * Source: jinja2 3.1.6, parser.py.
 */
import { exceeded, fail, limits } from './limits.ts';
import type { Arguments, Expression, FilterExpression, Target } from './syntax.ts';
import type { TokenStream } from './token-stream.ts';

const COMPARISONS = new Set(['==', '!=', '<', '<=', '>', '>=']);
const CONSTANTS = new Map<string, null | boolean>([
  ['true', true],
  ['True', true],
  ['false', false],
  ['False', false],
  ['none', null],
  ['None', null],
]);
const NO_ARGUMENTS: Arguments = { positional: [], keywords: [], spread: undefined, keywordSpread: undefined };

export class ExpressionParser {
  protected readonly stream: TokenStream;
  /** Names read so far, one set per enclosing macro. */
  protected readonly reads: Set<string>[] = [];

  constructor(stream: TokenStream) {
    this.stream = stream;
  }

  /** An expression, or a tuple when separated by commas. `choice`: whether `… if …` may follow. */
  protected tuple(choice = true, isEnd: () => boolean = () => false, inParentheses = false): Expression {
    const [items, isTuple] = this.#separated(isEnd, ['close variable', ')'], () => this.expression(choice));
    if (isTuple || (inParentheses && items.length === 0)) return { kind: 'tuple', items };
    return items[0] ?? this.stream.unexpected('an expression');
  }

  /** Items up to one of `ends`, and whether a comma followed one of them. */
  #separated<T>(isEnd: () => boolean, ends: readonly string[], item: () => T): [T[], boolean] {
    const items: T[] = [];
    let hasComma = false;
    while (!isEnd() && ![...ends, 'close block'].includes(this.stream.current.type)) {
      items.push(item());
      if (!this.stream.skip(',')) break;
      hasComma = true;
    }
    return [items, hasComma];
  }

  protected expression(choice = true): Expression {
    return this.stream.nested(() => {
      let yes = this.#or();
      while (choice && this.stream.skipName('if')) {
        const test = this.#or();
        const no = this.stream.skipName('else') ? this.expression() : undefined;
        yes = { kind: 'choice', test, yes, no };
      }
      return yes;
    });
  }

  #or(): Expression {
    return this.#chain(['or'], () => this.#chain(['and'], () => this.#not()));
  }

  #not(): Expression {
    if (!this.stream.skipName('not')) return this.#compare();
    return this.stream.nested(() => ({ kind: 'not', value: this.#not() }));
  }

  #compare(): Expression {
    const first = this.#sum();
    const rest: [string, Expression][] = [];
    for (;;) {
      const { type } = this.stream.current;
      if (COMPARISONS.has(type)) {
        this.stream.next();
        rest.push([type, this.#sum()]);
      } else if (this.stream.skipName('in')) rest.push(['in', this.#sum()]);
      else if (this.stream.skipName('not', 'in')) rest.push(['not in', this.#sum()]);
      else return rest.length === 0 ? first : { kind: 'compare', first, rest };
    }
  }

  #sum(): Expression {
    return this.#chain(['+', '-'], () => this.#concat());
  }

  #concat(): Expression {
    const product = (): Expression =>
      this.#chain(['*', '/', '//', '%'], () => this.#chain(['**'], () => this.#unary()));
    const items = [product()];
    while (this.stream.skip('~')) items.push(product());
    return items.length === 1 ? items[0] : { kind: 'concat', items };
  }

  /** `a op b op c`, left-associative. The tree is as deep as the chain is long, so the length is bounded. */
  #chain(operators: readonly string[], operand: () => Expression): Expression {
    let left = operand();
    for (let links = 1; ; links++) {
      const { type, value } = this.stream.current;
      const operator = type === 'name' ? value : type;
      if (!operators.includes(operator)) return left;
      if (links > limits.nesting) exceeded('nesting', 'operators in a row', links);
      this.stream.next();
      left = { kind: 'binary', operator, left, right: operand() };
    }
  }

  #unary(withFilters = true): Expression {
    let node: Expression;
    const { type } = this.stream.current;
    if (type === '-' || type === '+') {
      this.stream.next();
      const value = this.stream.nested(() => this.#unary(false));
      node = { kind: type === '-' ? 'negative' : 'positive', value };
    } else node = this.primary();
    node = this.#postfix(node);
    return withFilters ? this.#filtersAndTests(node) : node;
  }

  protected primary(): Expression {
    const { stream } = this;
    const token = stream.current;
    switch (token.type) {
      case 'name': {
        stream.next();
        const constant = CONSTANTS.get(token.value);
        if (constant !== undefined) return { kind: 'constant', value: constant };
        for (const set of this.reads) set.add(token.value);
        return { kind: 'name', name: token.value };
      }
      case 'string': {
        let value = '';
        while (stream.current.type === 'string') value += stream.next().value;
        return { kind: 'constant', value };
      }
      case 'integer': {
        const { value } = stream.next();
        if (value.length > 4300) exceeded('integerBits', 'bits in a whole number', value.length * 3);
        return { kind: 'constant', value: BigInt(value) };
      }
      case 'float':
        return { kind: 'constant', value: Number(stream.next().value) };
      case '(': {
        stream.next();
        const node = stream.nested(() => this.tuple(true, undefined, true));
        stream.expect(')');
        return node;
      }
      case '[': {
        const items: Expression[] = [];
        this.#list('[', ']', () => items.push(this.expression()));
        return { kind: 'list', items };
      }
      case '{': {
        const items: [Expression, Expression][] = [];
        this.#list('{', '}', () => {
          const key = this.expression();
          stream.expect(':');
          items.push([key, this.expression()]);
        });
        return { kind: 'dict', items };
      }
      default:
        return stream.unexpected('an expression');
    }
  }

  #list(open: string, close: string, item: () => void): void {
    this.stream.expect(open);
    while (this.stream.current.type !== close) {
      item();
      if (this.stream.current.type !== close) this.stream.expect(',');
    }
    this.stream.expect(close);
  }

  #postfix(start: Expression): Expression {
    let node = start;
    for (let links = 1; ; links++) {
      if (links > limits.nesting) exceeded('nesting', 'attributes and calls in a row', links);
      const { type } = this.stream.current;
      if (type === '.') node = this.#attribute(node);
      else if (type === '[') node = this.#subscript(node);
      else if (type === '(') node = { kind: 'call', callee: node, args: this.args() };
      else return node;
    }
  }

  #attribute(object: Expression): Expression {
    this.stream.next();
    const token = this.stream.next();
    if (token.type === 'name') return { kind: 'attribute', object, name: token.value };
    if (token.type !== 'integer')
      fail(`line ${token.line}: expected a name or a number after '.', got '${token.value}'`);
    return { kind: 'item', object, index: { kind: 'constant', value: BigInt(token.value) } };
  }

  #subscript(object: Expression): Expression {
    const { stream } = this;
    stream.expect('[');
    const parts: (Expression | undefined)[] = [undefined];
    let isSlice = false;
    while (stream.current.type !== ']' && stream.current.type !== ',') {
      if (stream.skip(':')) {
        isSlice = true;
        parts.push(undefined);
      } else if (parts.at(-1) === undefined) parts[parts.length - 1] = this.expression();
      else stream.unexpected("']'");
    }
    if (isSlice && parts.length <= 3 && stream.skip(']')) return { kind: 'slice', object, bounds: parts };
    if (isSlice || parts[0] === undefined) return stream.unexpected('an index');
    let index = parts[0];
    if (stream.current.type === ',') {
      const items = [index];
      while (stream.skip(',')) items.push(this.expression());
      index = { kind: 'tuple', items };
    }
    stream.expect(']');
    return { kind: 'item', object, index };
  }

  #filtersAndTests(start: Expression): Expression {
    let node = start;
    for (let links = 1; ; links++) {
      if (links > limits.nesting) exceeded('nesting', 'filters and tests in a row', links);
      if (this.stream.current.type === '|') node = this.filters(node) ?? node;
      else if (this.stream.isName('is')) node = this.#test(node);
      else if (this.stream.current.type === '(') node = { kind: 'call', callee: node, args: this.args() };
      else return node;
    }
  }

  /** `|a|b(1)` after a value, or in a block `set`. `inline`: the first filter has no bar. */
  protected filters(value: Expression | undefined, inline = false): FilterExpression | undefined {
    let node: FilterExpression | undefined;
    for (let links = 1; this.stream.current.type === '|' || (inline && links === 1); links++) {
      if (links > limits.nesting) exceeded('nesting', 'filters in a row', links);
      this.stream.skip('|');
      const name = this.#dottedName();
      const args = this.stream.current.type === '(' ? this.args() : NO_ARGUMENTS;
      node = { kind: 'filter', value: node ?? value, name, args };
    }
    return node;
  }

  #dottedName(): string {
    let name = this.stream.expect('name').value;
    while (this.stream.skip('.')) name += `.${this.stream.expect('name').value}`;
    return name;
  }

  #test(value: Expression): Expression {
    const { stream } = this;
    stream.expectName('is');
    const negated = stream.skipName('not');
    const name = this.#dottedName();
    let args = NO_ARGUMENTS;
    if (stream.current.type === '(') args = this.args();
    else if (
      ['name', 'string', 'integer', 'float', '[', '{'].includes(stream.current.type) &&
      !stream.isName('else', 'or', 'and')
    ) {
      if (stream.isName('is')) fail(`line ${stream.current.line}: expected one test, got several in a row`);
      args = { ...NO_ARGUMENTS, positional: [this.#postfix(this.primary())] };
    }
    const test: Expression = { kind: 'test', value, name, args };
    return negated ? { kind: 'not', value: test } : test;
  }

  protected args(): Arguments {
    const { stream } = this;
    const positional: Expression[] = [];
    const keywords: [string, Expression][] = [];
    let spread: Expression | undefined;
    let keywordSpread: Expression | undefined;
    const ensure = (valid: boolean): void => {
      if (!valid) stream.unexpected('arguments in order: plain ones, names with values, *list, **dict');
    };
    this.#list('(', ')', () => {
      if (stream.current.type === '*') {
        ensure(spread === undefined && keywordSpread === undefined);
        stream.next();
        spread = this.expression();
      } else if (stream.current.type === '**') {
        ensure(keywordSpread === undefined);
        stream.next();
        keywordSpread = this.expression();
      } else if (stream.current.type === 'name' && stream.following.type === '=') {
        ensure(keywordSpread === undefined);
        const name = stream.next().value;
        stream.next();
        keywords.push([name, this.expression()]);
      } else {
        ensure(spread === undefined && keywordSpread === undefined && keywords.length === 0);
        positional.push(this.expression());
      }
    });
    return { positional, keywords, spread, keywordSpread };
  }

  /** A name, or comma-separated names. `members`: whether attributes of a namespace are allowed. */
  protected target(members = false): Target {
    const [items, isTuple] = this.#separated(
      () => this.stream.isName('in'),
      [')', '=', '|'],
      () => this.#oneTarget(members),
    );
    return isTuple ? { kind: 'tuple', items } : (items[0] ?? this.stream.unexpected('a name'));
  }

  #oneTarget(members: boolean): Target {
    if (this.stream.skip('(')) {
      const inner = this.stream.nested(() => this.target(members));
      this.stream.expect(')');
      return inner;
    }
    const { value: name, line } = this.stream.expect('name');
    if (CONSTANTS.has(name)) fail(`line ${line}: expected a name to assign to, got '${name}'`);
    if (members && this.stream.skip('.'))
      return { kind: 'member', name, attribute: this.stream.expect('name').value };
    return { kind: 'name', name };
  }
}
