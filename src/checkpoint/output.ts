/**
 * Where a converted checkpoint goes: whether the place is free, whether it has room, and the small files that travel with
 * the weights (tokenizer, chat template, licence, how the model was trained).
 */
import { lstat, mkdir, readdir, realpath, statfs } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve, sep } from 'node:path';
import { FormatError } from '../format/format-error.ts';
import { TEMPLATE_FOLDER } from './chat-templates.ts';
import { MAX_SIDECAR_BYTES, readSmallFile } from './file-source.ts';
import { removeLeftovers, writeContentAtomically } from './write-atomically.ts';

/** Files beside the weights that say nothing about their shapes. */
const CARRIED =
  /^(gqa-train\.json|(special_tokens|added_tokens|generation_config|preprocessor_config|processor_config).*\.json|(tokenizer|vocab|merges|chat_template|spiece|sentencepiece).*\.(json|txt|model|jinja)|.*\.tiktoken|(LICENSE|LICENCE|NOTICE|COPYING).*)$/;

/**
 * Checks that a checkpoint may be written to `to`.
 * @param from the checkpoint that will be read meanwhile: neither may lie inside the other
 * @param force allows to replace a `.gguf` file, or a folder that is a checkpoint
 * @throws Error with what to do when something is there, or when `to` would overwrite `from`
 */
export async function checkOutputPlace(from: string, to: string, force: boolean): Promise<void> {
  const [source, target] = await Promise.all([realPath(from), realPath(to)]);
  if (isInside(source, target) || isInside(target, source)) {
    throw new Error(`${to}: expected a place outside of the checkpoint that is read, got ${from}`);
  }
  const found = await lstatOrNothing(to);
  if (found === undefined) return;
  if (!force)
    throw new Error(`${to}: expected nothing there, got ${kindOf(found)}; { force: true } replaces it`);
  if (found.isFile() ? to.toLowerCase().endsWith('.gguf') : found.isDirectory() && (await isReplaceable(to)))
    return;
  throw new Error(
    `${to}: expected a checkpoint or an empty folder to replace, got ${kindOf(found)} of something else`,
  );
}

/** Nothing but files, a config and weights among them: what a converter or a download leaves. */
async function isReplaceable(folder: string): Promise<boolean> {
  const entries = await readdir(folder, { withFileTypes: true });
  if (entries.length === 0) return true;
  const has = (pattern: RegExp) => entries.some(({ name }) => pattern.test(name));
  const isPart = (entry: (typeof entries)[number]): boolean =>
    entry.isFile() || entry.name === TEMPLATE_FOLDER;
  return entries.every(isPart) && has(/^config\.json$/) && has(/\.safetensors$/);
}

type Stats = Awaited<ReturnType<typeof lstat>>;

function kindOf(found: Stats): string {
  return found.isDirectory() ? 'a folder' : found.isFile() ? 'a file' : 'something';
}

async function lstatOrNothing(path: string): Promise<Stats | undefined> {
  try {
    return await lstat(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** The path with the links of what exists of it resolved. */
async function realPath(path: string): Promise<string> {
  const whole = resolve(path);
  try {
    return await realpath(whole);
  } catch {
    const parent = dirname(whole);
    return parent === whole ? whole : join(await realPath(parent), basename(whole));
  }
}

function isInside(inner: string, outer: string): boolean {
  const way = relative(outer, inner);
  return way === '' || (way !== '..' && !way.startsWith(`..${sep}`) && !/^[A-Za-z]:/.test(way));
}

/**
 * Checks the free space of the file system that `path` will lie on.
 * @throws Error with both numbers
 */
export async function checkSpace(path: string, bytes: number): Promise<void> {
  await removeLeftovers(resolve(path), 'tmp');
  let folder = dirname(resolve(path));
  while ((await lstatOrNothing(folder)) === undefined && dirname(folder) !== folder) folder = dirname(folder);
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  if (free < bytes) {
    throw new Error(
      `${path}: expected ${bytes} bytes of free space, got ${free}; free some or choose another disk`,
    );
  }
}

/**
 * Names of the tokenizer, chat template, generation config, recipe and licence files in a folder.
 * @throws FormatError for a link out of it: a downloaded checkpoint must not choose what else of a disk is copied
 */
async function carriedNames(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { withFileTypes: true });
  const carried: { name: string; isSymbolicLink(): boolean }[] = entries.filter(
    (entry) => !entry.isDirectory() && CARRIED.test(entry.name),
  );
  const named = entries.find((entry) => entry.name === TEMPLATE_FOLDER && !entry.isFile());
  if (named !== undefined) {
    if (named.isSymbolicLink()) carried.push(named);
    const templates = await readdir(join(folder, TEMPLATE_FOLDER), { withFileTypes: true });
    for (const entry of templates.filter((one) => !one.isDirectory() && one.name.endsWith('.jinja'))) {
      carried.push({
        name: `${TEMPLATE_FOLDER}/${entry.name}`,
        isSymbolicLink: () => entry.isSymbolicLink(),
      });
    }
  }
  for (const { name } of carried.filter((entry) => entry.isSymbolicLink())) {
    const file = join(folder, name);
    const [target, ...roots] = await Promise.all([realpath(file), realpath(folder), blobsOf(folder)]);
    if (!roots.some((root) => root !== undefined && isInside(target, root))) {
      const detail = `expected a file of the checkpoint, got a link to ${target}; put a copy in its place`;
      throw new FormatError(file, undefined, detail);
    }
  }
  return carried.map(({ name }) => name).filter((name) => name !== TEMPLATE_FOLDER);
}

/** Where the files of a folder `snapshots/REVISION` of Hugging Face's cache lie; they are links there. */
async function blobsOf(folder: string): Promise<string | undefined> {
  const snapshots = dirname(await realpath(folder));
  return basename(snapshots) === 'snapshots' ? join(dirname(snapshots), 'blobs') : undefined;
}

/** The files that travel with the weights, by name. @throws FormatError for one that is no regular file, a link out of the folder, or too large */
export async function readCarriedFiles(from: string): Promise<ReadonlyMap<string, Uint8Array>> {
  const files = new Map<string, Uint8Array>();
  for (const name of await carriedNames(from)) {
    const bytes = await readSmallFile(join(from, name), MAX_SIDECAR_BYTES);
    if (bytes !== undefined) files.set(name, bytes);
  }
  return files;
}

/** Writes files beside the weights, each whole or not there. @param files by name; one may have a folder in it */
export async function writeCarriedFiles(
  folder: string,
  files: Iterable<readonly [string, string | Uint8Array]>,
): Promise<void> {
  for (const [name, content] of files) {
    const file = join(folder, name);
    await mkdir(dirname(file), { recursive: true });
    await writeContentAtomically(file, content);
  }
}

/** Copies the files that travel with the weights. @throws as `readCarriedFiles` @returns their names */
export async function carryFiles(from: string, to: string): Promise<readonly string[]> {
  const files = await readCarriedFiles(from);
  await writeCarriedFiles(to, files);
  return [...files.keys()];
}
