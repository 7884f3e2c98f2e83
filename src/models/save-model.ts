/** `saveModel`: a model as a Hugging Face folder. */
import { anything, describe, show } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import type { Backend } from '../backend/backend.ts';
import { backendOfHandle } from '../backend/handle.ts';
import { isTokenizerFile, readCarriedFiles } from '../checkpoint/carried-files.ts';
import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import { CONFIG, configText, configWithDtype } from '../checkpoint/config-json.ts';
import { openSource } from '../checkpoint/open-checkpoint.ts';
import { shardBytes, shardTensors } from '../checkpoint/shard-tensors.ts';
import type { TensorBytes } from '../checkpoint/tensor-bytes.ts';
import { writeModelFolder } from '../checkpoint/write-model-folder.ts';
import { checkPlace, type PlaceLike } from '../files/place.ts';
import { storageByteLength } from '../format/storage-type.ts';
import { isBlockDType } from '../tensor/dtype.ts';
import type { Tokenizer, WritableTokenizer } from '../text/tokenizer.ts';
import { type HuggingFaceForm, huggingFaceForm } from './hugging-face-form.ts';
import { Model, type ModelOrigin } from './model.ts';
import { type PlacedWeight, storedBytes } from './stored-weight.ts';

const OP = 'saveModel';
const GENERATION = 'generation_config.json';

type Json = Readonly<Record<string, unknown>>;

/** Options of `saveModel`. */
export interface SaveModelOptions {
  /** Written in place of the model's own, with its end tokens; needed for a model from `createModel`. */
  readonly tokenizer?: Tokenizer;
  /**
   * Type of all weights. Default: as the model stores them; block types, which safetensors does not have, as
   * f16.
   */
  readonly dtype?: 'f32' | 'f16' | 'bf16';
  /**
   * Largest file of weights, in bytes or such as `'5GB'` (10^9 bytes each); above it there are several, with
   * an index. Default `'5GB'`.
   */
  readonly maxShardSize?: number | string;
}

type FloatType = NonNullable<SaveModelOptions['dtype']>;

const OPTIONS = optionKinds<SaveModelOptions>({
  tokenizer: anything,
  dtype: anything,
  maxShardSize: anything,
});

/**
 * Writes a model as a Hugging Face folder, which transformers and `loadModel` open: config.json,
 * model.safetensors (or shards and their index), the tokenizer's files and generation_config.json with the end
 * tokens. A model loaded from a Hugging Face folder keeps its config, chat templates and licence.
 *
 * All or nothing: the files are written beside the folder and renamed. A folder that is there is replaced when
 * it is empty, or holds config.json and nothing but files of a model.
 * @param path of the folder, or a `Folder`
 * @param model from `loadModel`, `createModel` or `loadTrainableModel`, with its weights as they are now
 * @throws Error when something else is in the folder, when the disk has no room, when the files that the model
 * was loaded from and that are to be copied are gone, and for a model from a GGUF file of another architecture
 * than llama, qwen2 or qwen3, or with something that its config.json cannot say
 * @example
 * const tokenizer = characterTokenizer('call me Ishmael');
 * const { vocabSize } = tokenizer;
 * const model = createModel(llamaConfig({ vocabSize, hiddenSize: 64, numLayers: 2, numHeads: 4 }));
 * await saveModel('out', model, { tokenizer });
 */
export async function saveModel(
  path: PlaceLike,
  model: Model,
  options: SaveModelOptions = {},
): Promise<void> {
  checkPlace(OP, 'a path first', path);
  if (!(model instanceof Model))
    throw new TypeError(`${OP}: expected a model second, got ${describe(model)}`);
  checkOptions(OP, options, OPTIONS);
  const { dtype, tokenizer, maxShardSize = '5GB' } = options;
  if (dtype !== undefined && dtype !== 'f32' && dtype !== 'f16' && dtype !== 'bf16') {
    throw new TypeError(`${OP}: expected dtype f32, f16 or bf16, got ${show(dtype)}`);
  }
  if (tokenizer !== undefined && typeof (tokenizer as WritableTokenizer | null)?.files !== 'function') {
    throw new TypeError(
      `${OP}: expected a tokenizer of a model or from characterTokenizer, got ${describe(tokenizer)}`,
    );
  }
  const maxBytes = shardBytes(OP, maxShardSize);
  const { parts } = model;
  const { origin } = parts;
  const backend = backendOfHandle(parts.backend);
  const form = huggingFaceForm(parts);
  const tensors = new Map(weightTensors(form.weights, backend, origin, dtype));
  const [first] = tensors.values();
  const files = await filesOf(model, origin, tokenizer);
  await using source = await sourceOf(origin);
  for (const name of source === undefined ? [] : (origin.others ?? [])) {
    tensors.set(name, otherTensor(source as Checkpoint, name));
  }
  const sizes = [...tensors.values()].map((tensor) => storageByteLength(tensor.dtype, tensor.shape));
  const ends = tokenizer === undefined ? {} : specialIds(tokenizer);
  const contents = {
    tensors,
    config: configWithDtype({ ...form.config, ...ends }, first.dtype),
    files,
    shards: shardTensors(tensors, maxBytes),
  };
  await writeModelFolder(
    path,
    contents,
    sizes.reduce((sum, size) => sum + size, 0),
  );
}

/** The stored tensors by name, each of its parts, in the decoder's order. */
function weightTensors(
  weights: HuggingFaceForm['weights'],
  backend: Backend,
  { dtypes }: ModelOrigin,
  asked: FloatType | undefined,
): [string, TensorBytes][] {
  const byName = new Map<string, PlacedWeight[]>();
  for (const weight of weights) {
    const { name } = weight.place;
    byName.set(name, [...(byName.get(name) ?? []), weight]);
  }
  return [...byName].map(([name, parts]) => {
    const dtype = asked ?? savedType(parts[0], dtypes);
    const data = () => storedBytes(backend, parts, dtype);
    return [name, { dtype, shape: parts[0].place.stored, data }];
  });
}

/** Norms and biases are f32 in a model, whatever the file has. */
function savedType({ place, tensor }: PlacedWeight, dtypes: ModelOrigin['dtypes']): FloatType {
  const stored = dtypes?.get(place.name);
  if (stored === 'f16' || stored === 'bf16') return stored;
  if (isBlockDType(tensor.dtype)) return 'f16';
  return tensor.dtype === 'f16' || tensor.dtype === 'bf16' ? tensor.dtype : 'f32';
}

/** The checkpoint that the model came from, when tensors are to be copied from it. */
async function sourceOf({ place, others = [] }: ModelOrigin): Promise<Checkpoint | undefined> {
  return place === undefined || others.length === 0 ? undefined : openSource(OP, place);
}

function otherTensor(source: Checkpoint, name: string): TensorBytes {
  const { dtype, shape } = source.tensor(name);
  return {
    dtype,
    shape,
    async *data() {
      yield await source.readBytes(name);
    },
  };
}

/**
 * The files beside weights and config.
 * @throws Error when those of the folder that the model was loaded from are gone
 */
async function filesOf(
  model: Model,
  { configJson, place }: ModelOrigin,
  tokenizer: Tokenizer | undefined,
): Promise<ReadonlyMap<string, Uint8Array>> {
  const files = new Map<string, Uint8Array>();
  if (place !== undefined && configJson !== undefined) {
    const names = (await place.folder.list()).map(({ name }) => name);
    if (names.includes(CONFIG))
      for (const [name, bytes] of await readCarriedFiles(place.folder)) files.set(name, bytes);
    else if (tokenizer === undefined) {
      throw new Error(
        `${OP}: expected the tokenizer of the model in ${place.folder.name}, from which it was loaded, got a folder without ${CONFIG}; give { tokenizer }`,
      );
    }
  }
  const own = tokenizer ?? (configJson === undefined ? model.tokenizer : undefined);
  if (own !== undefined) {
    for (const name of [...files.keys()].filter(isTokenizerFile)) files.delete(name);
    for (const [name, bytes] of await (own as WritableTokenizer).files()) files.set(name, bytes);
  }
  if (tokenizer !== undefined || !files.has(GENERATION)) {
    const ids = tokenizer === undefined ? endIds(model.endTokenIds) : specialIds(tokenizer);
    files.set(GENERATION, new TextEncoder().encode(configText(ids)));
  }
  return files;
}

/** The special tokens of a tokenizer, as config.json and generation_config.json have them. */
function specialIds({ bosTokenId, eosTokenIds }: Tokenizer): Json {
  return { bos_token_id: bosTokenId ?? null, eos_token_id: null, pad_token_id: null, ...endIds(eosTokenIds) };
}

function endIds(ids: readonly number[]): Json {
  return ids.length === 0 ? {} : { eos_token_id: ids.length === 1 ? ids[0] : ids };
}
