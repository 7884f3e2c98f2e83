/**
 * A checkpoint's chat templates: the choice among several, and their variables, as in transformers'
 * `apply_chat_template` (tokenization_utils_base.py and utils/chat_template_utils.py).
 */
import { aBoolean, anything, aString, describe } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { ChatTemplate } from './jinja/template.ts';
import { refuse } from './steps.ts';
import type { TokenizerConfigJson } from './tokenizer-json.ts';

/** One turn of a chat. Further keys (names, tool calls) are passed to the template. */
export interface ChatMessage {
  /** Such as `system`, `user` or `assistant`. */
  readonly role: string;
  /** A text, or parts such as `{ type: 'text', text }`; undefined or null in a turn with only tool calls. */
  readonly content?: string | readonly Readonly<Record<string, unknown>>[] | null;
  readonly [key: string]: unknown;
}

/** Options of `applyChatTemplate`. */
export interface ChatTemplateOptions {
  /** Whether to append the start of the assistant's next turn. Default false. */
  readonly addGenerationPrompt?: boolean;
  /**
   * Functions the model may call, as JSON schemas; selects the template `tool_use` if there is one. Default
   * null.
   */
  readonly tools?: readonly Readonly<Record<string, unknown>>[] | null;
  /** Documents for retrieval templates (`title`, `text`). Default null. */
  readonly documents?: readonly Readonly<Record<string, unknown>>[] | null;
  /** The name of a template, or a Jinja source (any text with a `{`). Default: chosen as in transformers. */
  readonly template?: string;
  /** Further variables of the template, such as `{ enable_thinking: false }`: plain JSON values. */
  readonly variables?: Readonly<Record<string, unknown>>;
}

const OPTIONS = optionKinds<ChatTemplateOptions>({
  addGenerationPrompt: aBoolean,
  tools: anything,
  documents: anything,
  template: aString,
  variables: anything,
});

/** Templates by name; a single template is named `default`. */
export type ChatTemplates = ReadonlyMap<string, string>;

/**
 * The templates of tokenizer_config.json: one, or a list of named ones. @throws RangeError for anything else
 */
export function configTemplates(config: TokenizerConfigJson): ChatTemplates {
  const template = config.chat_template ?? undefined;
  if (template === undefined) return new Map();
  if (typeof template === 'string') return new Map([['default', template]]);
  if (!Array.isArray(template) || !template.every(isNamedTemplate))
    refuse('chat_template to be a text, or a list of objects with name and template', template);
  return new Map(template.map((named) => [named.name, named.template]));
}

function isNamedTemplate(value: unknown): boolean {
  const { name, template } = (value ?? {}) as { name?: unknown; template?: unknown };
  return typeof name === 'string' && typeof template === 'string';
}

/**
 * Keys under which a message's reasoning is passed; most templates read the first, those of gpt-oss the
 * second.
 */
const REASONING = ['reasoning_content', 'thinking', 'reasoning'] as const;

export class ChatRenderer {
  readonly templates: ChatTemplates;
  readonly #tokens: Readonly<Record<string, string>>;
  readonly #parsed = new Map<string, ChatTemplate>();

  /** @param tokens the special tokens by their names in templates */
  constructor(templates: ChatTemplates, tokens: Readonly<Record<string, string>>) {
    this.templates = templates;
    this.#tokens = tokens;
  }

  render(messages: readonly ChatMessage[], options: ChatTemplateOptions): string {
    checkOptions('applyChatTemplate', options, OPTIONS);
    const { addGenerationPrompt = false, tools = null, documents = null, template, variables = {} } = options;
    const source = this.#choose(template, tools !== null);
    const turns = checkedMessages(messages);
    checkObjects('tools', tools);
    checkObjects('documents', documents);
    if (typeof variables !== 'object' || variables === null || Array.isArray(variables)) {
      throw new TypeError(
        `applyChatTemplate: expected an object of values by name as variables, got ${describe(variables)}`,
      );
    }
    for (const name of ['messages', 'tools', 'documents', 'add_generation_prompt']) {
      if (name in variables)
        throw new TypeError(`applyChatTemplate: expected '${name}' as an option, got it in variables`);
    }
    let parsed = this.#parsed.get(source);
    if (parsed === undefined) {
      parsed = new ChatTemplate(source);
      this.#parsed.clear();
      this.#parsed.set(source, parsed);
    }
    return parsed.render({
      ...this.#tokens,
      ...variables,
      messages: turns,
      tools,
      documents,
      add_generation_prompt: addGenerationPrompt,
    });
  }

  #choose(template: string | undefined, withTools: boolean): string {
    const { templates } = this;
    const names = [...templates.keys()].map((name) => `'${name}'`).join(', ');
    if (template !== undefined) {
      const source = templates.get(template) ?? (template.includes('{') ? template : undefined);
      if (source !== undefined) return source;
      throw new RangeError(
        `applyChatTemplate: expected template to be one of ${names || 'none'}, or a Jinja source, got '${template}'`,
      );
    }
    if (templates.size === 0) {
      throw new Error(
        'applyChatTemplate: expected a checkpoint with a chat template, got none; encode the prompt without a template',
      );
    }
    const source = (withTools ? templates.get('tool_use') : undefined) ?? templates.get('default');
    if (source !== undefined) return source;
    throw new Error(
      `applyChatTemplate: expected a template 'default', got only ${names}; choose one with the option template`,
    );
  }
}

/** Messages without null values, with their reasoning under all keys of `REASONING`. */
function checkedMessages(messages: readonly ChatMessage[]): readonly object[] {
  if (!Array.isArray(messages)) {
    throw new TypeError(`applyChatTemplate: expected an array of messages, got ${describe(messages)}`);
  }
  if (messages.length === 0) throw new RangeError('applyChatTemplate: expected at least 1 message, got 0');
  return messages.map((message: unknown, i) => {
    if (typeof message !== 'object' || message === null || Array.isArray(message)) {
      throw new TypeError(
        `applyChatTemplate: expected message ${i} to be an object with a role, got ${describe(message)}`,
      );
    }
    const turn = Object.fromEntries(Object.entries(message).filter(([, value]) => (value ?? null) !== null));
    const reasoning = REASONING.map((name) => turn[name]).find((value) => value !== undefined);
    return reasoning === undefined ? turn : { thinking: reasoning, ...turn, reasoning_content: reasoning };
  });
}

function checkObjects(what: string, values: unknown): void {
  if (values === null) return;
  if (!Array.isArray(values)) {
    throw new TypeError(
      `applyChatTemplate: expected ${what} to be an array of objects, got ${describe(values)}`,
    );
  }
  for (const value of values) {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw new TypeError(
        `applyChatTemplate: expected ${what} of plain objects, got ${describe(value)} among them`,
      );
  }
}
