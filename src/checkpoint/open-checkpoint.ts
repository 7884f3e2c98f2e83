/**
 * Opens whatever holds a model's weights: a Hugging Face directory, one safetensors file, one GGUF file or the first of several
 * parts. Only headers are read. What cannot be opened is told in one line that says what to do.
 *
 * Source: Hugging Face hub layout (config.json, model.safetensors, model.safetensors.index.json with `weight_map`).
 */

import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { describe } from '../arguments/kinds.ts';
import { FormatError } from '../format/format-error.ts';
import { type GgufHeader, readGgufHeader } from '../format/gguf.ts';
import { ggufModels, joinedHeader, partCount, partName } from '../format/gguf-split.ts';
import { JsonReader } from '../format/json-reader.ts';
import { parseJson } from '../format/parse-json.ts';
import { readSafetensorsHeader, type SafetensorsHeader } from '../format/safetensors.ts';
import { Checkpoint, type CheckpointParts, type CheckpointTensor, isPlainFileName } from './checkpoint.ts';
import { type FileIdentity, type FileSource, readSmallFile, withFileSource } from './file-source.ts';
import { describeAdapter, describeOtherFolder, TO_SAFETENSORS } from './other-folders.ts';

const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';
const ACCEPTED = `a .gguf file, a .safetensors file, or a directory with ${SINGLE}, ${INDEX} or one .gguf file`;
const MAX_CONFIG_BYTES = 1 << 24;
/** The index of a model of 100,000 tensors has some 10 MB. */
const MAX_INDEX_BYTES = 100_000_000;
/** Shards opened at the same time. */
const AT_ONCE = 8;

/**
 * Opens a checkpoint and checks the headers of all its files.
 * @param path a `.gguf` (of a model in parts the first) or `.safetensors` file, or a directory in Hugging Face's layout or with
 * exactly one GGUF model
 * @param op whom an error about the kind of `path` speaks for
 * @throws Error when there is nothing to open at `path`, FormatError (with the file and mostly the byte) when a file is
 * damaged, a shard is missing, or the index and the shards disagree
 * @returns the checkpoint, whose tensor data has not been read
 * @example
 * await using checkpoint = await openCheckpoint('models/SmolLM2-135M');
 * checkpoint.shape.numKeyValueHeads; // 3
 */
export async function openCheckpoint(path: string, op = 'openCheckpoint'): Promise<Checkpoint> {
  if (typeof path !== 'string' || path === '') {
    const got = path === '' ? 'an empty string' : describe(path);
    throw new TypeError(`${op}: expected the path of a checkpoint, got ${got}`);
  }
  let isDirectory: boolean;
  try {
    isDirectory = (await stat(path)).isDirectory();
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const why = code === 'ENOENT' || code === 'ENOTDIR' ? 'nothing there' : message;
    const hint = /^https?:/.test(path) ? ' (a URL is not fetched: download it first)' : '';
    throw new Error(`${path}: expected ${ACCEPTED}, got ${why}${hint}`, { cause });
  }
  return new Checkpoint(isDirectory ? await openDirectory(path) : await openFile(path, path));
}

async function openDirectory(directory: string): Promise<CheckpointParts> {
  const names = (await readdir(directory)).sort();
  if (names.includes(SINGLE) || names.includes(INDEX)) await refuseAdapter(directory, names);
  if (names.includes(SINGLE)) return openFile(directory, join(directory, SINGLE));
  if (names.includes(INDEX)) return openShards(directory, names);
  const gguf = ggufModels(names);
  if (gguf.length === 1 && !names.includes(gguf[0])) {
    const parts = names.filter((name) => name.toLowerCase().endsWith('.gguf'));
    throw new Error(`${directory}: expected the first part ${gguf[0]}, got ${list(parts)}; fetch it too`);
  }
  if (gguf.length === 1) return openFile(directory, join(directory, gguf[0]));
  if (gguf.length > 1) {
    throw new Error(
      `${directory}: expected one .gguf file, got ${gguf.length} (${list(gguf)}); give the path of one`,
    );
  }
  const other = await describeOtherFolder(directory, names);
  if (other !== undefined) throw new Error(`${directory}: expected safetensors or GGUF, ${other}`);
  const loose = names.filter((name) => name.endsWith('.safetensors'));
  if (loose.length > 0) {
    throw new Error(`${directory}: expected ${SINGLE} or ${INDEX}, got ${list(loose)}; give the path of one`);
  }
  const got = names.length === 0 ? 'an empty directory' : list(names);
  throw new Error(`${directory}: expected ${SINGLE}, ${INDEX} or one .gguf file, got ${got}`);
}

/** transformers would add the adapter, or not, by what else is installed. */
async function refuseAdapter(directory: string, names: readonly string[]): Promise<void> {
  const adapter = await describeAdapter(directory, names);
  if (adapter === undefined) return;
  throw new Error(
    `${directory}: expected a model alone, ${adapter}, or move adapter_config.json away to use the model without it`,
  );
}

/** `path` is what the caller gave, `file` the file itself. */
async function openFile(path: string, file: string): Promise<CheckpointParts> {
  return withFileSource(file, async (source): Promise<CheckpointParts> => {
    const start = await source.read(0, Math.min(source.size, 64));
    const directory = dirname(file);
    if (kindOf(file, start) === 'safetensors') {
      const { tensors, metadata } = await readSafetensorsHeader(source);
      const found = new Map([...tensors].map(([name, info]) => [name, { ...info, path: file }]));
      return {
        kind: 'safetensors',
        path,
        directory,
        tensors: found,
        metadata,
        files: new Map([[file, source.identity]]),
        ...(await configs(directory)),
      };
    }
    const first = await readGgufHeader(source);
    const opened: OpenedGguf[] = [{ header: first, identity: source.identity }];
    const parts = partCount(first);
    if (parts > 1) opened.push(...(await openParts(file, parts)));
    const gguf = parts > 1 ? joinedHeader(opened.map(({ header }) => header)) : first;
    const found = new Map<string, CheckpointTensor>();
    for (const { header } of opened) {
      for (const [name, info] of header.tensors) found.set(name, { ...info, path: header.file });
    }
    const files = new Map(opened.map(({ header, identity }) => [header.file, identity]));
    return { kind: 'gguf', path, directory, gguf, tensors: found, files };
  });
}

interface OpenedGguf {
  readonly header: GgufHeader;
  readonly identity: FileIdentity;
}

/** The headers of all parts but the first. @throws FormatError that names the files which are not there */
async function openParts(first: string, count: number): Promise<OpenedGguf[]> {
  const paths = Array.from({ length: count - 1 }, (_, i) => partName(first, i + 1));
  if (partName(first, 0) !== first || !new RegExp(`-of-0*${count}\\.gguf$`, 'i').test(first)) {
    const name = `…-00001-of-${String(count).padStart(5, '0')}.gguf`;
    throw new FormatError(
      first,
      undefined,
      `expected a name ${name} of the first of ${count} parts, which finds the others`,
    );
  }
  const found = paths as string[];
  const names = new Set(await readdir(dirname(first)));
  const missing = found.map((path) => basename(path)).filter((name) => !names.has(name));
  if (missing.length > 0) {
    throw new FormatError(
      first,
      undefined,
      `expected its ${count} parts next to it, got no ${list(missing)}; fetch the missing files`,
    );
  }
  const opened: OpenedGguf[] = [];
  for (const path of found) {
    opened.push(
      await withFileSource(path, async (source) => ({
        header: await readGgufHeader(source),
        identity: source.identity,
      })),
    );
  }
  return opened;
}

/** Decides by content, and by name where the content is too short or damaged, so that its own parser says what is wrong. */
function kindOf(file: string, start: Uint8Array): 'safetensors' | 'gguf' {
  const ascii = String.fromCharCode(...start.filter((byte) => byte < 0x80));
  if (ascii.startsWith('version https://git-lfs')) {
    throw new FormatError(
      file,
      0,
      'expected weights, got a Git LFS pointer; fetch the file with git lfs pull',
    );
  }
  const name = file.toLowerCase();
  if (ascii.startsWith('GGUF') || name.endsWith('.gguf')) return 'gguf';
  if (name.endsWith('.safetensors') || start[8] === 0x7b) return 'safetensors';
  if (name.endsWith(INDEX)) {
    throw new FormatError(file, undefined, 'expected weights, got the index of shards; give its directory');
  }
  if (name.endsWith('.json')) {
    throw new FormatError(file, undefined, 'expected weights, got a JSON file; give its directory');
  }
  if (ascii.startsWith('PK') || /\.(bin|pth?|ckpt)$/.test(name)) {
    throw new FormatError(
      file,
      0,
      `expected safetensors or GGUF, got a PyTorch or zip file; ${TO_SAFETENSORS}`,
    );
  }
  const bytes = [...start.subarray(0, 8)].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
  throw new FormatError(
    file,
    0,
    `expected ${ACCEPTED}, got a file that begins with ${bytes || 'nothing (it is empty)'}`,
  );
}

async function openShards(directory: string, names: readonly string[]): Promise<CheckpointParts> {
  const index = join(directory, INDEX);
  const shardOf = await readIndex(index);
  const shards = [...new Set(shardOf.values())].sort();
  const missing = shards.filter((shard) => !names.includes(shard));
  if (missing.length > 0) {
    throw new FormatError(
      index,
      undefined,
      `expected its ${shards.length} shards next to it, got no ${list(missing)}; fetch the missing files`,
    );
  }
  const headers = new Map<string, SafetensorsHeader>();
  const files = new Map<string, FileIdentity>();
  for (let i = 0; i < shards.length; i += AT_ONCE) {
    const batch = shards.slice(i, i + AT_ONCE);
    const read = await Promise.all(batch.map((shard) => withFileSource(join(directory, shard), readShard)));
    batch.forEach((shard, j) => {
      headers.set(shard, read[j].header);
      files.set(join(directory, shard), read[j].identity);
    });
  }
  const tensors = new Map<string, CheckpointTensor>();
  for (const [name, shard] of shardOf) {
    const info = headers.get(shard)?.tensors.get(name);
    if (info === undefined) {
      throw new FormatError(
        index,
        undefined,
        `expected tensor ${JSON.stringify(name)} in ${shard}, got a shard without it; fetch index and shards again`,
      );
    }
    tensors.set(name, { ...info, path: join(directory, shard) });
  }
  const metadata = headers.get(shards[0])?.metadata;
  return {
    kind: 'safetensors',
    path: directory,
    directory,
    tensors,
    metadata,
    files,
    ...(await configs(directory)),
  };
}

async function readShard(
  source: FileSource,
): Promise<{ readonly header: SafetensorsHeader; readonly identity: FileIdentity }> {
  kindOf(source.name, await source.read(0, Math.min(source.size, 64)));
  return { header: await readSafetensorsHeader(source), identity: source.identity };
}

/** Tensor name to shard name, in the order of the index. */
async function readIndex(index: string): Promise<Map<string, string>> {
  const bytes = await readSmallFile(index, MAX_INDEX_BYTES);
  if (bytes === undefined)
    throw new FormatError(index, undefined, 'expected the index of shards, got nothing there');
  const json = new JsonReader(index, bytes, 0);
  const shardOf = new Map<string, string>();
  let found = false;
  json.object((key, at) => {
    if (key !== 'weight_map') return json.skip();
    found = json.object((name, shardAt) => {
      const shard = json.string();
      if (shard === undefined || !isPlainFileName(shard)) {
        const detail = 'expected a file name without a folder';
        throw json.fail(shardAt, `weight_map ${JSON.stringify(name)}: ${detail}`);
      }
      shardOf.set(name, shard);
    });
    if (!found)
      throw json.fail(at, `expected a weight_map of tensor names to files, got ${json.describe(at)}`);
  });
  json.end();
  if (!found) throw json.fail(0, 'expected a weight_map of tensor names to files, got none');
  return shardOf;
}

async function configs(directory: string): Promise<{ config: unknown; generationConfig: unknown }> {
  return {
    config: await readJson(join(directory, 'config.json')),
    generationConfig: await readJson(join(directory, 'generation_config.json')),
  };
}

async function readJson(file: string): Promise<unknown> {
  const bytes = await readSmallFile(file, MAX_CONFIG_BYTES);
  return bytes && parseJson(file, bytes);
}

/** At most three names, as an error prints them. */
function list(names: readonly string[]): string {
  const shown = names.slice(0, 3).join(', ');
  return names.length > 3 ? `${shown} and ${names.length - 3} more` : shown;
}
