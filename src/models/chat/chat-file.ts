/**
 * A saved chat: a folder with `chat.json` (the messages, the options, and the tokens of the cache) and
 * `cache.safetensors`. Numbers of messages, tools, documents and variables stay what they are in a template
 * (ints of any length, floats such as 1.0).
 */
import { listOfNumbers, show } from '../../arguments/kinds.ts';
import { checkOptions } from '../../arguments/options.ts';
import type { KeyValueCache } from '../../cache/cache.ts';
import { saveCache } from '../../cache/save-cache.ts';
import { type Folder, readSmallText } from '../../files/folder.ts';
import { FormatError } from '../../format/format-error.ts';
import { parseJson } from '../../format/parse-json.ts';
import { parseJson as parseTemplateJson, TemplateFloat } from '../../text/jinja/from-javascript.ts';
import type { ChatMessage } from '../../text/tokenizer.ts';
import { type ChatOptions, LOAD_OPTIONS } from './chat-options.ts';

const FILE = 'chat.json';
export const CACHE_FILE = 'cache.safetensors';
const VERSION = 1;

/** Options that cannot be written to a file, or are part of the messages. */
const NOT_SAVED = ['system', 'cache', 'draftModel', 'logitsProcessors'] as const;
const SAVED_OPTIONS = Object.fromEntries(
  Object.entries(LOAD_OPTIONS).filter(([name]) => !NOT_SAVED.includes(name as never)),
);
type SavedOptions = Omit<ChatOptions, (typeof NOT_SAVED)[number]>;

export interface SavedChat {
  readonly messages: readonly ChatMessage[];
  readonly options: SavedOptions;
  /** The tokens of the cache in the folder; undefined where none was saved. */
  readonly tokens?: readonly number[];
}

/**
 * Writes a chat, in place of an older one. After a crash the folder holds the older one, or the new one with or
 * without its cache.
 * @param held the cache and its tokens, to be saved too
 */
export async function writeChat(
  folder: Folder,
  messages: readonly ChatMessage[],
  options: ChatOptions,
  held?: { readonly cache: KeyValueCache; readonly tokens: readonly number[] },
): Promise<void> {
  const saved = Object.entries(options).filter(([name]) => !NOT_SAVED.includes(name as never));
  const content = { gqaChat: VERSION, options: Object.fromEntries(saved), messages };
  await folder.create();
  await folder.write(FILE, `${toJson(content)}\n`);
  await folder.remove(CACHE_FILE);
  if (held === undefined) return;
  await saveCache({ folder, file: CACHE_FILE }, held.cache);
  await folder.write(FILE, `${toJson({ ...content, tokens: held.tokens })}\n`);
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
    checkOptions('loadChat', plain?.options, SAVED_OPTIONS);
    if (plain?.tokens !== undefined) listOfNumbers('loadChat', 'tokens', plain.tokens as number[]);
  } catch (cause) {
    throw new FormatError(name, undefined, (cause as Error).message, { cause });
  }
  const options = { ...(plain?.options as SavedOptions) } as Record<string, unknown>;
  for (const key of ['tools', 'documents', 'variables']) {
    if (key in exact) options[key] = (exact as Record<string, unknown>)[key];
  }
  return { messages, options, tokens: plain?.tokens as number[] | undefined };
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
