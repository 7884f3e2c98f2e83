/**
 * A model's shape from a GGUF header: `{arch}.block_count`, `{arch}.attention.head_count_kv` and so on. Older
 * files do not say which layers slide; `families.ts` has the rule of each architecture.
 *
 * Source: gguf-py constants.py and llama.cpp's llama-arch.cpp (keys); `load_arch_hparams` in llama.cpp's
 * src/models/*.cpp, as in llama-cpp-python 0.3.36 (windows, patterns, intervals, MLA and indexer sizes).
 */
import { unknownGgufKeys } from './attention-keys.ts';
import { ggufExperts } from './experts-shape.ts';
import { familyFacts } from './families.ts';
import { lastOf } from './family-facts.ts';
import type { GgufHeader } from './gguf.ts';
import { ggufKeys } from './gguf-keys.ts';
import type { KeyReader } from './key-reader.ts';
import { freezeShape, type LayerShape, type ModelShape, withWidths } from './shape-types.ts';

const factsOf = (arch: string) => familyFacts(arch).gguf ?? {};

type Head = Pick<LayerShape, 'keyHeadDim' | 'valueHeadDim' | 'latent'>;

/**
 * Reads a model's shape from a GGUF header.
 * @throws FormatError that names the key: no architecture, heads missing, K not a divisor of N
 * @returns a frozen shape; `modelType` is the architecture
 */
export function modelShapeFromGguf(header: GgufHeader): ModelShape {
  if (!(header?.metadata instanceof Map)) {
    throw new TypeError(`modelShapeFromGguf: expected the result of readGgufHeader, got ${typeof header}`);
  }
  const { file, metadata, tensors } = header;
  const arch = metadata.get('general.architecture');
  const keys = ggufKeys(header);
  if (typeof arch !== 'string') throw keys.fail('general.architecture', 'expected a string, got none');
  if (factsOf(arch).otherCache === true) {
    throw keys.fail('general.architecture', `expected one whose cache is supported, got ${arch}`);
  }
  const numLayers = layerCount(keys, arch);
  const hiddenSize = keys.needInt(`${arch}.embedding_length`);
  const headCounts = keys.perLayer(numLayers, `${arch}.attention.head_count`);
  const numHeads = headCounts === undefined ? 0 : Math.max(...headCounts);
  if (headCounts === undefined || numHeads === 0) {
    const got = headCounts ? 0 : 'no such key';
    throw keys.fail(`${arch}.attention.head_count`, `expected query heads, got ${got}`);
  }
  const widths = keys.perLayer(numLayers, `${arch}.feed_forward_length`);
  const intermediateSize = widths === undefined ? undefined : Math.max(...widths);
  const heads = layerShapes(keys, arch, hiddenSize, numHeads, headCounts).map((layer, i) => {
    const has = (name: string) => tensors.has(`blk.${i}.attn_${name}.weight`);
    return has('k') && !has('v') ? { ...layer, keysAreValues: true as const } : layer;
  });
  const layers = withWidths(heads, widths, intermediateSize);
  const inputDim = keys.count(`${arch}.embedding_length_per_layer_input`) ?? 0;
  const inputRows = tensors.get('per_layer_token_embd.weight')?.shape[0] ?? 0;
  const experts = ggufExperts(keys, arch, numLayers, intermediateSize, familyFacts(arch).sharedExperts);
  const tokens = metadata.get('tokenizer.ggml.tokens');
  const shape = {
    modelType: arch,
    numHeads,
    hiddenSize,
    intermediateSize,
    gatedMlp: familyFacts(arch).ungated !== true,
    ...(experts !== undefined && { experts }),
    ...(inputDim > 0 && { layerInputs: { dim: inputDim, vocabSize: inputRows } }),
    vocabSize:
      keys.int(`${arch}.vocab_size`) ??
      tensors.get('token_embd.weight')?.shape[0] ??
      (Array.isArray(tokens) ? tokens.length : undefined),
    maxPositionEmbeddings: keys.int(`${arch}.context_length`),
    // Not known from a file without tensors (a vocabulary, the first part of a model).
    tiedEmbeddings: tensors.has('token_embd.weight') ? !tensors.has('output.weight') : undefined,
    layers,
  };
  const headKey = `${arch}.attention.head_count`;
  const warnings = unknownGgufKeys(metadata, keys.asked, arch);
  return freezeShape(file, { ...shape, warnings }, { heads: headKey, keyValueHeads: `${headKey}_kv` });
}

/** The layers of a forward pass: `block_count` without those that only draft tokens, times the loops. */
function layerCount(keys: KeyReader, arch: string): number {
  const blocks = keys.layerCount(`${arch}.decoder_block_count`, `${arch}.block_count`);
  const drafts = keys.count(`${arch}.nextn_predict_layers`) ?? 0;
  const own = drafts < blocks && factsOf(arch).draftsInPass !== true ? blocks - drafts : blocks;
  const loops = keys.int(`${arch}.num_loops`) ?? 1;
  return loops === 1
    ? own
    : keys.with({ [`${arch}.block_count`]: own * loops }).layerCount(`${arch}.block_count`);
}

function layerShapes(
  keys: KeyReader,
  arch: string,
  hiddenSize: number,
  numHeads: number,
  headCounts: readonly number[],
): LayerShape[] {
  const numLayers = headCounts.length;
  const counts = keys.perLayer(numLayers, `${arch}.attention.head_count_kv`) ?? headCounts;
  const full = headShape(keys, arch, hiddenSize, numHeads, '');
  const sliding = headShape(keys, arch, hiddenSize, numHeads, '_swa');
  const windows = windowsOf(keys, arch, numLayers);
  const slides = slidingLayers(keys, arch, numLayers);
  const linear = linearLayers(keys, arch);
  const indexed = indexedLayers(keys, arch);
  const shared = keys.count(`${arch}.attention.shared_kv_layers`);
  const { ownCaches = numLayers } = factsOf(arch);
  const firstShared = shared === undefined ? ownCaches : numLayers - shared;
  return counts.map((numKeyValueHeads, i): LayerShape => {
    // Without key/value or query heads: a state-space, convolution or feed-forward layer of a hybrid model.
    if (numKeyValueHeads === 0 || headCounts[i] === 0 || linear(i)) {
      return { kind: 'linear', numKeyValueHeads: 0, keyHeadDim: 0, valueHeadDim: 0 };
    }
    const windowKind = slides(i);
    const window = windowKind && windows?.[i % windows.length];
    const isSliding = windowKind !== undefined && window !== undefined && window > 0;
    const { latent, ...head } = isSliding ? sliding : full;
    const own = isSliding ? windowKind : latent === undefined ? 'full' : 'latent';
    const kind = i >= firstShared ? 'shared' : own;
    return {
      kind,
      ...(headCounts[i] !== numHeads && { numHeads: headCounts[i] }),
      numKeyValueHeads: latent === undefined ? numKeyValueHeads : headCounts[i],
      ...head,
      ...(latent !== undefined && { latent }),
      ...(isSliding && { window }),
      ...(indexed(i) && { indexKeyDim: keys.needInt(`${arch}.attention.indexer.key_length`) }),
    };
  });
}

/** @param suffix `_swa` for the sliding layers, whose dims may differ */
function headShape(
  keys: KeyReader,
  arch: string,
  hiddenSize: number,
  numHeads: number,
  suffix: '' | '_swa',
): Head {
  const own = (name: string) => {
    const plain = `${arch}.attention.${name}`;
    return suffix === '' ? [plain] : [`${plain}${suffix}`, plain];
  };
  const rank = keys.int(...own('kv_lora_rank'));
  if (rank !== undefined) {
    // Newer files have the latent row's width (rank + rope) in key_length and the expanded heads' in *_mla;
    // older files have those in key_length.
    const split = keys.find(own('key_length_mla')) !== undefined;
    const queryRank = keys.int(...own('q_lora_rank'));
    const dims = [`${arch}.rope.dimension_count${suffix}`, `${arch}.rope.dimension_count`];
    return {
      keyHeadDim: keys.needInt(...own('key_length_mla'), ...own('key_length')),
      valueHeadDim: keys.needInt(...own('value_length_mla'), ...own('value_length')),
      latent: {
        rank,
        // In models without positions it is 0.
        ropeDim: keys.count(...dims) ?? keys.needInt(...dims),
        ...(queryRank !== undefined && { queryRank }),
        ...(!split && { expandedInLlamaCpp: true }),
      },
    };
  }
  const keyHeadDim = keys.int(...own('key_length'));
  const valueHeadDim = keys.int(...own('value_length'));
  if ((keyHeadDim === undefined || valueHeadDim === undefined) && hiddenSize % numHeads !== 0) {
    const expected = `expected a divisor of embedding_length ${hiddenSize} without key_length or value_length`;
    throw keys.fail(`${arch}.attention.head_count`, `${expected}, got ${numHeads}`);
  }
  return {
    keyHeadDim: keyHeadDim ?? hiddenSize / numHeads,
    valueHeadDim: valueHeadDim ?? hiddenSize / numHeads,
  };
}

/** Keys seen by a sliding layer: one number, or one per layer with 0 for a full one. */
function windowsOf(keys: KeyReader, arch: string, numLayers: number): readonly number[] | undefined {
  const rule = factsOf(arch).layers;
  const key = `${arch}.attention.sliding_window`;
  if (keys.list(key) !== undefined) return keys.perLayer(numLayers, key);
  const stated = keys.count(key);
  if (stated === 0) return undefined;
  const window = stated === undefined ? rule?.window : (rule?.fixedWindow ?? stated);
  return window === undefined ? undefined : [window];
}

/** The kind of each layer with a window. */
function slidingLayers(
  keys: KeyReader,
  arch: string,
  numLayers: number,
): (layer: number) => 'sliding' | 'chunked' | undefined {
  const key = `${arch}.attention.sliding_window_pattern`;
  const flags = keys.list(key);
  if (flags !== undefined) {
    if (flags.length < numLayers) throw keys.fail(key, `expected ${numLayers} layers, got ${flags.length}`);
    return (i) => (flags[i] ? 'sliding' : undefined);
  }
  const { layers: rule } = factsOf(arch);
  const period = keys.int(key) ?? rule?.period;
  if (period === undefined) return () => 'sliding';
  const { layer } = rule ?? lastOf(period);
  return (i) => {
    const kind = layer(i, numLayers, period);
    return kind === 'sliding' || kind === 'chunked' ? kind : undefined;
  };
}

function linearLayers(keys: KeyReader, arch: string): (layer: number) => boolean {
  const flags = keys.list(`${arch}.attention.recurrent_layers`);
  if (flags !== undefined) return (i) => Boolean(flags[i]);
  const period = keys.int(`${arch}.full_attention_interval`) ?? factsOf(arch).attentionPeriod;
  return period === undefined ? () => false : (i) => (i + 1) % period !== 0;
}

/** Layers whose indexer caches a key. */
function indexedLayers(keys: KeyReader, arch: string): (layer: number) => boolean {
  if (keys.int(`${arch}.attention.indexer.key_length`) === undefined) return () => false;
  const types = keys.list(`${arch}.attention.indexer.types`);
  if (types !== undefined) return (i) => Boolean(types[i]);
  return factsOf(arch).indexer?.(keys) ?? (() => true);
}
