/**
 * Evaluates a template's syntax tree. Scopes are Jinja's: a loop iteration, a macro, a `with`, and the block
 * of a `set`, `filter`, `call` or `generation` have their own; an `if` has none.
 *
 * Source: jinja2 3.1.6, compiler.py and runtime.py.
 */
import { attribute, item } from './attributes.ts';
import { globals, setMember } from './globals.ts';
import { filterNamed, testNamed } from './library.ts';
import { exceeded, fail, limits, reserve, reserveItems, step, unsupported } from './limits.ts';
import { makeLoop } from './loop.ts';
import { binary, holds, negate, positive, slice, unpack } from './operators.ts';
import { Scope, undefinedName } from './scope.ts';
import {
  type Arguments,
  type Block,
  type Callee,
  type Expression,
  type FilterExpression,
  type ForStatement,
  namesOf,
  type Statement,
  type Target,
} from './syntax.ts';
import {
  Dict,
  defined,
  either,
  Fn,
  iterate,
  type Keywords,
  listOf,
  Markup,
  Namespace,
  Native,
  Tuple,
  textFor,
  truthy,
  typeName,
  Undefined,
  type Value,
} from './values.ts';

/** How a list of statements ended: `break`, `continue`, or undefined at its end. */
type End = 'break' | 'continue' | undefined;

export class Interpreter {
  readonly #variables: ReadonlyMap<string, Value>;
  #depth = 0;

  constructor(variables: ReadonlyMap<string, Value>) {
    this.#variables = variables;
  }

  run(body: Block): string {
    const out: string[] = [];
    this.#runAll(body, new Scope(undefined, body), out);
    return out.join('');
  }

  #deeper<T>(run: () => T): T {
    step();
    if (++this.#depth > limits.depth) exceeded('depth', 'nested expressions and macros', this.#depth);
    const result = run();
    this.#depth--;
    return result;
  }

  #runAll(body: Block, scope: Scope, out: string[]): End {
    for (const statement of body) {
      const end = this.#deeper(() => this.#runOne(statement, scope, out));
      if (end !== undefined) return end;
    }
    return undefined;
  }

  #write(text: string, out: string[]): void {
    reserve(text.length);
    out.push(text);
  }

  #runOne(statement: Statement, scope: Scope, out: string[]): End {
    switch (statement.kind) {
      case 'data':
        this.#write(statement.text, out);
        return;
      case 'print':
        for (const value of statement.values) this.#write(textFor(this.#evaluate(value, scope)), out);
        return;
      case 'if':
        for (const [test, body] of statement.branches) {
          if (test === undefined || truthy(this.#evaluate(test, scope)))
            return this.#runAll(body, scope, out);
        }
        return;
      case 'for':
        this.#loop(statement, this.#evaluate(statement.iterable, scope), scope, out, 1);
        return;
      case 'set':
        this.#assign(statement.target, this.#evaluate(statement.value, scope), scope);
        return;
      case 'set block':
      case 'filter block': {
        const text: string[] = [];
        const end = this.#runAll(statement.body, new Scope(scope, statement.body), text);
        if (end !== undefined) return end;
        const value = this.#filtered(statement.filter, text.join(''), scope);
        if (statement.kind === 'set block') this.#assign(statement.target, value, scope);
        // The result of a filter block must be a string: it is joined, not converted.
        else if (typeof value === 'string' || value instanceof Markup) this.#write(textFor(value), out);
        else fail(`expected a filter block to return a string, got a '${typeName(value)}'`);
        return;
      }
      case 'with': {
        const own = statement.values.flatMap(([target]) => namesOf(target));
        const inner = new Scope(scope, statement.body, own);
        for (const [target, value] of statement.values)
          this.#assign(target, this.#evaluate(value, scope), inner);
        return this.#runAll(statement.body, inner, out);
      }
      case 'scope':
        return this.#runAll(statement.body, new Scope(scope, statement.body), out);
      case 'macro':
        scope.names.set(statement.name, this.#callable(statement.name, statement.callee, scope));
        return;
      case 'call block': {
        const { callee: macro, args } = statement.call;
        const [positional, keywords] = this.#arguments(args, scope);
        keywords.set('caller', this.#callable('caller', statement.callee, scope));
        this.#write(textFor(this.#call(this.#evaluate(macro, scope), positional, keywords)), out);
        return;
      }
      default:
        return statement.kind;
    }
  }

  /** Applies the filters of a block to its text, the value of the innermost filter. */
  #filtered(filter: FilterExpression | undefined, text: string, scope: Scope): Value {
    if (filter === undefined) return text;
    const inner = filter.value;
    if (inner !== undefined && inner.kind !== 'filter')
      unsupported('a filter block that starts with a value');
    const value = this.#filtered(inner, text, scope);
    return this.#applyFilter(filter, value, scope);
  }

  #loop(statement: ForStatement, iterable: Value, outer: Scope, out: string[], depth: number): void {
    let items = listOf(iterable);
    const { target, test, body, otherwise } = statement;
    const own = [...namesOf(target), 'loop'];
    if (test !== undefined) {
      items = items.filter((value) => {
        const scope = new Scope(outer, [], own);
        this.#assign(target, value, scope);
        return truthy(this.#evaluate(test, scope));
      });
    }
    const recurse = (inner: Value): Value => {
      if (!statement.recursive) fail("The loop must have the 'recursive' marker to be called recursively.");
      const text: string[] = [];
      this.#deeper(() => this.#loop(statement, inner, outer, text, depth + 1));
      return text.join('');
    };
    const loop = makeLoop(items, depth, recurse);
    // As in Jinja, `else` runs when no iteration reached its end.
    let isDone = false;
    for (let i = 0; i < items.length; i++) {
      step();
      loop.moveTo(i);
      const scope = new Scope(outer, body, own);
      scope.names.set('loop', loop.value);
      this.#assign(target, items[i], scope);
      const end = this.#runAll(body, scope, out);
      if (end === 'break') break;
      isDone ||= end === undefined;
    }
    if (!isDone) this.#runAll(otherwise, new Scope(outer, otherwise), out);
  }

  #assign(target: Target, value: Value, scope: Scope): void {
    switch (target.kind) {
      case 'name':
        scope.names.set(target.name, value);
        return;
      case 'tuple': {
        const values = unpack(value, target.items.length);
        for (let i = 0; i < values.length; i++) this.#assign(target.items[i], values[i], scope);
        return;
      }
      case 'member': {
        const namespace = this.#name(target.name, scope);
        if (!(namespace instanceof Namespace)) fail('cannot assign attribute on non-namespace object');
        setMember(namespace, target.attribute, value);
      }
    }
  }

  #name(name: string, scope: Scope): Value {
    for (const found of [scope.find(name), this.#variables.get(name), globals.get(name)]) {
      if (found !== undefined) return found;
    }
    return undefinedName(name);
  }

  /** A macro, or the block of a `call` as its `caller`. */
  #callable(name: string, callee: Callee, closure: Scope): Native {
    const names = callee.parameters.map(([parameter]) => parameter);
    const takes = (special: string): boolean => callee.reads.has(special) && !names.includes(special);
    const own = [...names, ...['caller', 'kwargs', 'varargs'].filter(takes)];
    const call = (args: readonly Value[], given: Keywords): Value => {
      const scope = new Scope(closure, callee.body, own);
      const keywords = new Map(given);
      const missing: [string, Expression | undefined][] = [];
      callee.parameters.forEach(([parameter, otherwise], i) => {
        const value = i < args.length ? args[i] : keywords.get(parameter);
        if (i >= args.length) keywords.delete(parameter);
        if (value === undefined) missing.push([parameter, otherwise]);
        scope.names.set(
          parameter,
          either(value, () => new Undefined(`parameter '${parameter}' was not provided`)),
        );
      });
      if (takes('caller')) {
        scope.names.set('caller', keywords.get('caller') ?? new Undefined('No caller defined'));
        keywords.delete('caller');
      }
      if (takes('kwargs')) scope.names.set('kwargs', new Dict(keywords));
      else for (const key of keywords.keys()) fail(`macro '${name}' takes no keyword argument '${key}'`);
      if (takes('varargs')) scope.names.set('varargs', new Tuple(args.slice(names.length)));
      else if (args.length > names.length)
        fail(`macro '${name}' takes not more than ${names.length} argument(s)`);
      for (const [parameter, otherwise] of missing) {
        if (otherwise !== undefined) scope.names.set(parameter, this.#evaluate(otherwise, scope));
      }
      const out: string[] = [];
      this.#runAll(callee.body, scope, out);
      return out.join('');
    };
    const attributes = {
      name: () => name,
      arguments: () => new Tuple(names),
      caller: () => takes('caller'),
      catch_kwargs: () => takes('kwargs'),
      catch_varargs: () => takes('varargs'),
    };
    return new Native('Macro', attributes, call);
  }

  #arguments(args: Arguments, scope: Scope): [Value[], Map<string, Value>] {
    const positional = args.positional.map((argument) => this.#evaluate(argument, scope));
    if (args.spread !== undefined) {
      for (const value of iterate(this.#evaluate(args.spread, scope))) {
        step();
        positional.push(value);
      }
    }
    const keywords = new Map<string, Value>();
    const add = (name: string, value: Value): void => {
      if (keywords.has(name)) fail(`got multiple values for keyword argument '${name}'`);
      keywords.set(name, value);
    };
    for (const [name, value] of args.keywords) add(name, this.#evaluate(value, scope));
    if (args.keywordSpread !== undefined) {
      const spread = this.#evaluate(args.keywordSpread, scope);
      if (!(spread instanceof Dict)) fail(`argument after ** must be a mapping, not ${typeName(spread)}`);
      for (const [name, value] of spread.entries()) {
        if (typeof name !== 'string') fail('keywords must be strings');
        add(name, value);
      }
    }
    return [positional, keywords];
  }

  #call(callee: Value, args: readonly Value[], keywords: Keywords): Value {
    defined(callee);
    if ((callee instanceof Fn || callee instanceof Native) && callee.call !== undefined)
      return callee.call(args, keywords);
    return fail(`'${typeName(callee)}' object is not callable`);
  }

  #applyFilter(node: FilterExpression, value: Value, scope: Scope): Value {
    const filter = filterNamed(node.name);
    const [args, keywords] = this.#arguments(node.args, scope);
    return filter(value, args, keywords);
  }

  #evaluate(node: Expression, scope: Scope): Value {
    return this.#deeper(() => this.#evaluateOne(node, scope));
  }

  #evaluateOne(node: Expression, scope: Scope): Value {
    switch (node.kind) {
      case 'constant':
        return node.value;
      case 'name':
        return this.#name(node.name, scope);
      case 'list':
      case 'tuple': {
        reserveItems(node.items.length);
        const items = node.items.map((part) => this.#evaluate(part, scope));
        return node.kind === 'list' ? items : new Tuple(items);
      }
      case 'concat': {
        const parts = node.items.map((part) => textFor(this.#evaluate(part, scope)));
        reserve(parts.reduce((sum, part) => sum + part.length, 0));
        return parts.join('');
      }
      case 'dict': {
        reserveItems(node.items.length);
        const dict = new Dict();
        for (const [key, value] of node.items)
          dict.set(this.#evaluate(key, scope), this.#evaluate(value, scope));
        return dict;
      }
      case 'attribute':
        return attribute(this.#evaluate(node.object, scope), node.name);
      case 'item':
        return item(this.#evaluate(node.object, scope), this.#evaluate(node.index, scope));
      case 'slice': {
        const object = this.#evaluate(node.object, scope);
        return slice(
          object,
          node.bounds.map((bound) => (bound === undefined ? null : this.#evaluate(bound, scope))),
        );
      }
      case 'call': {
        const callee = this.#evaluate(node.callee, scope);
        return this.#call(callee, ...this.#arguments(node.args, scope));
      }
      case 'filter': {
        const value = node.value === undefined ? '' : this.#evaluate(node.value, scope);
        return this.#applyFilter(node, value, scope);
      }
      case 'test': {
        const test = testNamed(node.name);
        const value = this.#evaluate(node.value, scope);
        return test(value, ...this.#arguments(node.args, scope));
      }
      case 'not':
        return !truthy(this.#evaluate(node.value, scope));
      case 'negative':
        return negate(this.#evaluate(node.value, scope));
      case 'positive':
        return positive(this.#evaluate(node.value, scope));
      case 'binary': {
        const { operator } = node;
        const left = this.#evaluate(node.left, scope);
        const isLogical = operator === 'and' || operator === 'or';
        if (isLogical && truthy(left) === (operator === 'or')) return left;
        const right = this.#evaluate(node.right, scope);
        return isLogical ? right : binary(operator, left, right);
      }
      case 'compare': {
        let left = this.#evaluate(node.first, scope);
        for (const [sign, operand] of node.rest) {
          const right = this.#evaluate(operand, scope);
          if (!holds(sign, left, right)) return false;
          left = right;
        }
        return true;
      }
      case 'choice':
        if (truthy(this.#evaluate(node.test, scope))) return this.#evaluate(node.yes, scope);
        if (node.no !== undefined) return this.#evaluate(node.no, scope);
        return new Undefined('the inline if-expression evaluated to false and no else section was defined.');
    }
  }
}
