/**
 * A checkpoint as a Hugging Face folder: weights in safetensors, one file or shards with an index, and
 * config.json.
 *
 * Source: Hugging Face hub layout (model.safetensors, model.safetensors.index.json with `weight_map`).
 */
import { type Folder, isPlainFileName, readSmallFile } from '../files/folder.ts';
import { FormatError } from '../format/format-error.ts';
import { JsonReader } from '../format/json-reader.ts';
import { readSafetensorsHeader } from '../format/safetensors.ts';
import { storageByteLength } from '../format/storage-type.ts';
import type { CheckpointFormat, CheckpointParts, CheckpointTensor } from './checkpoint.ts';
import { configText } from './config-json.ts';
import { huggingFace, readConfigs, writeBeside } from './hugging-face.ts';
import { describeAdapter } from './other-folders.ts';
import { checkPresent, readHeaders, tensorsOf } from './read-headers.ts';
import type { TensorBytes } from './tensor-bytes.ts';
import { writeSafetensors } from './write-safetensors.ts';

const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';
/** The index of a model with 100,000 tensors has about 10 MB. */
const MAX_INDEX_BYTES = 100_000_000;

export const safetensorsCheckpoint: CheckpointFormat = {
  ...huggingFace,
  kind: 'safetensors',
  dtypes: ['f32', 'f16', 'bf16'],
  ending: undefined,

  /** The header is JSON, after 8 bytes of length. */
  recognises: (name, start) => name.toLowerCase().endsWith('.safetensors') || start[8] === 0x7b,

  async find(folder, names) {
    const found = [SINGLE, INDEX].find((name) => names.includes(name));
    const adapter = found && (await describeAdapter(folder, names));
    if (!adapter) return found;
    // Whether transformers would add the adapter depends on other installed packages.
    throw new Error(
      `${folder.name}: expected a model alone, ${adapter}, or move adapter_config.json away to use the model without it`,
    );
  },

  async open(folder, file) {
    const weights = file === INDEX ? await openShards(folder) : await openSingle(folder, file);
    return { folder, file, ...weights, ...(await readConfigs(folder)) };
  },

  async write(folder, contents) {
    const { tensors, shards, metadata, concurrency } = contents;
    const files = new Map<string, Record<string, TensorBytes>>();
    const index: [name: string, shard: string][] = [];
    let total = 0;
    for (const [name, tensor] of tensors) {
      const shard = shards?.get(name) ?? SINGLE;
      const stored = files.get(shard) ?? {};
      files.set(shard, Object.assign(stored, { [name]: tensor }));
      index.push([name, shard]);
      total += storageByteLength(tensor.dtype, tensor.shape);
    }
    for (const [shard, stored] of files) {
      await writeSafetensors({ folder, file: shard }, stored, { metadata, concurrency });
    }
    const names = [...files.keys()];
    if (files.size > 1 || !files.has(SINGLE)) {
      const weight_map = Object.fromEntries(index.sort(([a], [b]) => (a < b ? -1 : 1)));
      await folder.write(INDEX, configText({ metadata: { total_size: total }, weight_map }));
      names.push(INDEX);
    }
    return [...names, ...(await writeBeside(folder, contents))];
  },
};

type Weights = Pick<CheckpointParts, 'tensors' | 'metadata' | 'files'>;

async function openSingle(folder: Folder, file: string): Promise<Weights> {
  const headers = await readHeaders(folder, [file], readSafetensorsHeader);
  const [{ header, source }] = headers;
  return { tensors: tensorsOf(headers), metadata: header.metadata, files: [source] };
}

async function openShards(folder: Folder): Promise<Weights> {
  const shardOf = await readIndex(folder);
  const shards = [...new Set(shardOf.values())].sort();
  await checkPresent(folder, INDEX, shards, `${shards.length} shards`);
  const headers = await readHeaders(folder, shards, readSafetensorsHeader);
  const headerOf = new Map(headers.map((read, i) => [shards[i], read]));
  const tensors = new Map<string, CheckpointTensor>();
  for (const [name, shard] of shardOf) {
    const { header, source } = headerOf.get(shard)!;
    const info = header.tensors.get(name);
    if (info === undefined) {
      const what = `expected tensor ${JSON.stringify(name)} in ${shard}, got a shard without it; fetch index and shards again`;
      throw new FormatError(folder.nameOf(INDEX), undefined, what);
    }
    tensors.set(name, { ...info, path: source.name });
  }
  return { tensors, metadata: headers[0]?.header.metadata, files: headers.map(({ source }) => source) };
}

/** Tensor name to shard name, in the order of the index. */
async function readIndex(folder: Folder): Promise<Map<string, string>> {
  const index = folder.nameOf(INDEX);
  const bytes = await readSmallFile(folder, INDEX, MAX_INDEX_BYTES);
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
