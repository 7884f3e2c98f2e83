/**
 * A saved chat: `chat.json` in a folder, with the messages and the options. Numbers of messages, tools,
 * documents and variables stay what they are in a template (ints of any length, floats such as 1.0).
 */
import { show } from '../../arguments/kinds.ts';
import { checkOptions } from '../../arguments/options.ts';
import { type Folder, readSmallText } from '../../files/folder.ts';
import { FormatError } from '../../format/format-error.ts';
import { parseJson } from '../../format/parse-json.ts';
import { parseJson as parseTemplateJson, TemplateFloat } from '../../text/jinja/from-javascript.ts';
import type { ChatMessage } from '../../text/tokenizer.ts';
import { type ChatOptions, LOAD_OPTIONS } from './chat-options.ts';

const FILE = 'chat.json';
const VERSION = 1;

/** Options that cannot be written to a file, or are part of the messages. */
const NOT_SAVED = ['system', 'cache', 'draftModel', 'logitsProcessors'] as const;
type SavedOptions = Omit<ChatOptions, (typeof NOT_SAVED)[number]>;

export interface SavedChat {
  readonly messages: readonly ChatMessage[];
  readonly options: SavedOptions;
}

/** Writes `chat.json`, in place of an older one. */
export async function writeChat(
  folder: Folder,
  messages: readonly ChatMessage[],
  options: ChatOptions,
): Promise<void> {
  const saved = Object.entries(options).filter(([name]) => !NOT_SAVED.includes(name as never));
  await folder.create();
  const content = { gqaChat: VERSION, options: Object.fromEntries(saved), messages };
  await folder.write(FILE, `${toJson(content)}\n`);
}

/** @throws FormatError when there is no saved chat in the folder, or `chat.json` is not one */
export async function readChat(folder: Folder): Promise<SavedChat> {
  const name = folder.nameOf(FILE);
  const refuse = (detail: string): never => {
    throw new FormatError(name, undefined, detail);
  };
  const text = await readSmallText(folder, FILE);
  if (text === undefined) return refuse('expected a saved chat, got no such file');
  const plain = parseJson(name, text) as Partial<Record<string, unknown>> | null;
  if (plain?.gqaChat !== VERSION) refuse(`expected gqaChat ${VERSION}, got ${show(plain?.gqaChat)}`);
  const { messages, options: exact } = parseTemplateJson(text) as { messages: unknown; options: object };
  if (!Array.isArray(messages) || !messages.every(isMessage)) {
    return refuse('expected messages to be a list of objects with a role');
  }
  try {
    checkOptions('loadChat', plain?.options, LOAD_OPTIONS);
  } catch (cause) {
    throw new FormatError(name, undefined, (cause as Error).message, { cause });
  }
  const options = { ...(plain?.options as SavedOptions) } as Record<string, unknown>;
  for (const key of ['tools', 'documents', 'variables']) {
    if (key in exact) options[key] = (exact as Record<string, unknown>)[key];
  }
  return { messages, options };
}

export function isMessage(value: unknown): value is ChatMessage {
  return typeof (value as ChatMessage | null)?.role === 'string';
}

/** JSON of plain values, and of those that `parseTemplateJson` gives; infinite numbers as 1e999. */
function toJson(value: unknown): string {
  if (typeof value === 'bigint') return String(value);
  if (typeof value === 'number' && Math.abs(value) === Number.POSITIVE_INFINITY) {
    return value > 0 ? '1e999' : '-1e999';
  }
  if (value instanceof TemplateFloat) {
    return Number.isInteger(value.value) ? value.value.toExponential() : toJson(value.value);
  }
  if (Array.isArray(value)) return `[${value.map(toJson).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value ?? null);
  const entries = (value instanceof Map ? [...value] : Object.entries(value))
    .filter(([, item]) => item !== undefined)
    .map(([key, item]) => `${JSON.stringify(key)}:${toJson(item)}`);
  return `{${entries.join(',')}}`;
}
