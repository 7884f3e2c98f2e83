/**
 * Statements: Jinja's own, `break` and `continue`, and transformers' `generation`, whose body has its own
 * scope. Statements that load other templates (`include`, `import`, `extends`) are refused.
 *
 * Source: jinja2 3.1.6, parser.py; transformers, utils/chat_template_utils.py.
 */
import { ExpressionParser } from './expressions.ts';
import { tokenize } from './lexer.ts';
import { fail, unsupported } from './limits.ts';
import { type Block, type Callee, type Expression, namesOf, type Statement, type Target } from './syntax.ts';
import { TokenStream } from './token-stream.ts';

export function parse(template: string): Statement[] {
  return new Parser(new TokenStream(tokenize(template))).template();
}

const UNSUPPORTED = ['include', 'import', 'from', 'extends', 'block', 'autoescape'];

class Parser extends ExpressionParser {
  #loops = 0;
  /** Whether `loop` was assigned in the innermost `for`. */
  #assignsLoop = false;

  template(): Statement[] {
    const body = this.#statements([]);
    if (this.stream.current.type !== 'end') this.stream.unexpected('the end of the template');
    return body;
  }

  /** Statements up to a tag named in `ends`, which is then the current token. */
  #statements(ends: readonly string[]): Statement[] {
    const { stream } = this;
    const body: Statement[] = [];
    for (;;) {
      if (stream.current.type === 'data') body.push({ kind: 'data', text: stream.next().value });
      else if (stream.skip('open variable')) {
        body.push({ kind: 'print', values: [this.tuple()] });
        stream.expect('close variable');
      } else if (stream.skip('open block')) {
        if (stream.isName(...ends)) return body;
        body.push(stream.nested(() => this.#statement()));
        stream.expect('close block');
      } else if (ends.length === 0) return body;
      else stream.unexpected(`{% ${ends.join(' %} or {% ')} %}`);
    }
  }

  /** The body of a block, and the name that ended it. */
  #block(...ends: string[]): [Block, string] {
    this.stream.skip(':');
    this.stream.expect('close block');
    const body = this.#statements(ends);
    return [body, this.stream.next().value];
  }

  #statement(): Statement {
    const { stream } = this;
    const { value: tag, line } = stream.expect('name');
    switch (tag) {
      case 'set':
        return this.#set();
      case 'for':
        return this.#for();
      case 'if':
        return this.#if();
      case 'with':
        return this.#with();
      case 'macro': {
        const name = stream.expect('name').value;
        return { kind: 'macro', name, callee: this.#callee('endmacro', true) };
      }
      case 'call':
        return this.#callBlock();
      case 'filter': {
        const filter = this.filters(undefined, true) ?? stream.unexpected('a filter');
        return { kind: 'filter block', filter, body: this.#block('endfilter')[0] };
      }
      case 'generation': {
        const body = this.#outsideLoops(() => this.#block('endgeneration')[0]);
        return { kind: 'scope', body };
      }
      case 'print': {
        const values: Expression[] = [];
        while (stream.current.type !== 'close block') {
          values.push(this.expression());
          if (stream.current.type !== 'close block') stream.expect(',');
        }
        return { kind: 'print', values };
      }
      case 'break':
      case 'continue':
        if (this.#loops === 0) fail(`line ${line}: expected '${tag}' inside a loop, got it outside`);
        return { kind: tag };
    }
    if (UNSUPPORTED.includes(tag)) unsupported(`{% ${tag} %}`);
    fail(`line ${line}: expected a Jinja tag, got '${tag}'`);
  }

  #set(): Statement {
    const target = this.target(true);
    if (namesOf(target).includes('loop')) this.#assignsLoop = true;
    if (this.stream.skip('=')) return { kind: 'set', target, value: this.tuple() };
    const filter = this.filters(undefined);
    return { kind: 'set block', target, filter, body: this.#block('endset')[0] };
  }

  #for(): Statement {
    const { stream } = this;
    const assignedBefore = this.#assignsLoop;
    this.#assignsLoop = false;
    const target = this.target();
    if (namesOf(target).includes('loop')) this.#assignsLoop = true;
    stream.expectName('in');
    const iterable = this.tuple(false, () => stream.isName('recursive', 'if'));
    const test = stream.skipName('if') ? this.expression() : undefined;
    const recursive = stream.skipName('recursive');
    this.#loops++;
    const [body, end] = this.#block('endfor', 'else');
    this.#loops--;
    const otherwise = end === 'else' ? this.#block('endfor')[0] : [];
    if (this.#assignsLoop) fail("expected no assignment to 'loop' inside a for, got one");
    this.#assignsLoop = assignedBefore;
    return { kind: 'for', target, iterable, test, recursive, body, otherwise };
  }

  #if(): Statement {
    const branches: [Expression | undefined, Block][] = [];
    for (let end = 'elif'; end !== 'endif'; ) {
      const test = end === 'elif' ? this.tuple(false) : undefined;
      const [body, next] = end === 'elif' ? this.#block('elif', 'else', 'endif') : this.#block('endif');
      branches.push([test, body]);
      end = next;
    }
    return { kind: 'if', branches };
  }

  #with(): Statement {
    const values: [Target, Expression][] = [];
    while (this.stream.current.type !== 'close block') {
      if (values.length > 0) this.stream.expect(',');
      const name = this.target();
      this.stream.expect('=');
      values.push([name, this.expression()]);
    }
    return { kind: 'with', values, body: this.#block('endwith')[0] };
  }

  #callBlock(): Statement {
    let call: Expression | undefined;
    const callee = this.#callee('endcall', this.stream.current.type === '(', () => {
      call = this.expression();
    });
    if (call?.kind !== 'call') fail('expected {% call %} with a call of a macro, got another expression');
    return { kind: 'call block', call, callee };
  }

  /** Parameters and body of a macro or of a `call` block; in the latter the call comes between the two. */
  #callee(end: string, hasParameters: boolean, between?: () => void): Callee {
    const parameters: [string, Expression | undefined][] = [];
    if (hasParameters) {
      this.stream.expect('(');
      while (!this.stream.skip(')')) {
        if (parameters.length > 0) this.stream.expect(',');
        const name = this.stream.expect('name').value;
        const value = this.stream.skip('=') ? this.expression() : undefined;
        if (value === undefined && parameters.at(-1)?.[1] !== undefined)
          this.stream.unexpected('a default value');
        parameters.push([name, value]);
      }
    }
    between?.();
    const reads = new Set<string>();
    this.reads.push(reads);
    const body = this.#outsideLoops(() => this.#block(end)[0]);
    this.reads.pop();
    if (reads.has('caller') && parameters.some(([name, value]) => name === 'caller' && value === undefined)) {
      fail("expected a parameter called 'caller' with a default, got one without");
    }
    return { parameters, body, reads };
  }

  /** Parses a body from which `break` cannot leave an outer loop. */
  #outsideLoops<T>(parse: () => T): T {
    const loops = this.#loops;
    this.#loops = 0;
    const result = parse();
    this.#loops = loops;
    return result;
  }
}
