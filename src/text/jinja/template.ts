/**
 * Chat templates: Jinja as in transformers (its immutable sandbox with `trim_blocks` and `lstrip_blocks`,
 * loop controls, `generation`, `raise_exception`, `strftime_now`, its own `tojson`, `dict` and `namespace`),
 * over Python's values and with limits. Checked against `test/golden/chat-templates`, rendered by
 * transformers. Unsupported features are refused by name.
 */
import { fromJavaScript } from './from-javascript.ts';
import { Interpreter } from './interpreter.ts';
import { beginRender, fail } from './limits.ts';
import { parse } from './parser.ts';
import type { Statement } from './syntax.ts';
import type { Value } from './values.ts';

export class ChatTemplate {
  readonly #body: readonly Statement[];

  /**
   * @throws TemplateError for a syntax error or an unsupported feature
   * @throws RangeError when it is larger, or nested more deeply, than the limits
   */
  constructor(source: string) {
    this.#body = parse(source);
  }

  /**
   * @param variables plain JSON values by name; undefined ones are skipped
   * @throws TemplateError with the template's own message, or Python's
   * @throws RangeError when it exceeds the limits of steps or characters
   */
  render(variables: Readonly<Record<string, unknown>>): string {
    beginRender();
    const values = new Map<string, Value>();
    for (const [name, value] of Object.entries(variables)) {
      if (value !== undefined) values.set(name, fromJavaScript(value, name));
    }
    try {
      return new Interpreter(values).run(this.#body);
    } catch (error) {
      if (error instanceof RangeError && /call stack/.test(error.message)) {
        fail('expected a recursion that fits the call stack, got a stack overflow');
      }
      throw error;
    }
  }
}
