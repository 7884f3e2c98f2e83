/**
 * A model's shape from a GGUF header: the keys `{arch}.block_count`, `{arch}.attention.head_count_kv` and so on. Layer patterns
 * are not in older files, so the rule of each architecture stands here.
 *
 * Source: gguf-py constants.py and llama.cpp's llama-arch.cpp (keys); the `load_arch_hparams` of llama.cpp's src/models/*.cpp, as
 * in llama-cpp-python 0.3.36 (windows, patterns, intervals, MLA and indexer sizes).
 */
import { unknownGgufKeys } from './attention-keys.ts';
import type { GgufHeader } from './gguf.ts';
import { ggufKeys } from './gguf-keys.ts';
import type { KeyReader } from './key-reader.ts';
import { freezeShape, type LayerShape, type ModelShape } from './shape-types.ts';

interface SlidingRule {
  /** One layer in so many sees everything: the last of them, or with `denseFirst` the first. */
  readonly period: number;
  readonly denseFirst?: true;
  /** Keys seen where the file leaves them out. */
  readonly window?: number;
  /** Keys seen whatever the file says, unless it says 0. */
  readonly fixed?: number;
}

const SLIDING: Readonly<Record<string, SlidingRule>> = {
  afmoe: { period: 4 },
  cohere2: { period: 4 },
  cohere2moe: { period: 4, denseFirst: true },
  'exaone-moe': { period: 4, window: 128 },
  exaone4: { period: 4 },
  gemma2: { period: 2, window: 4096 },
  gemma3: { period: 6 },
  gemma3n: { period: 5 },
  'gpt-oss': { period: 2 },
  laguna: { period: 4, denseFirst: true },
  // Chunks; the file has no key for them.
  llama4: { period: 4, fixed: 8192, window: 8192 },
  mellum: { period: 4 },
  'muse-glimmer': { period: 4 },
  olmo2: { period: 4 },
  plamo3: { period: 8 },
  smallthinker: { period: 4, denseFirst: true, fixed: 4096 },
};

/** One layer in so many has attention, the last of them; the others a state. */
const LINEAR: Readonly<Record<string, number>> = {
  qwen3next: 4,
  qwen35: 4,
  qwen35moe: 4,
  qwen4exp: 4,
  'minimax-01': 8,
};

/** Caches of another kind, which the rules below would take for plain attention. */
const UNKNOWN = /^(deepseek4|dflash)$/;

type Head = Pick<LayerShape, 'keyHeadDim' | 'valueHeadDim' | 'latent'>;

/**
 * Reads the attention facts from a GGUF header.
 * @throws FormatError that names the key: no architecture, heads missing, K not a divisor of N
 * @returns a frozen shape; `modelType` is the architecture
 */
export function modelShapeFromGguf(header: GgufHeader): ModelShape {
  if (!(header?.metadata instanceof Map)) {
    throw new TypeError(`modelShapeFromGguf: expected what readGgufHeader gives, got ${typeof header}`);
  }
  const { file, metadata, tensors } = header;
  const arch = metadata.get('general.architecture');
  const keys = ggufKeys(header);
  if (typeof arch !== 'string') throw keys.fail('general.architecture', 'expected a string, got none');
  if (UNKNOWN.test(arch)) {
    throw keys.fail('general.architecture', `expected one whose cache is known here, got ${arch}`);
  }
  const numLayers = layerCount(keys, arch);
  const hiddenSize = keys.needInt(`${arch}.embedding_length`);
  const headCounts = keys.perLayer(numLayers, `${arch}.attention.head_count`);
  const numHeads = headCounts === undefined ? 0 : Math.max(...headCounts);
  if (headCounts === undefined || numHeads === 0) {
    throw keys.fail(
      `${arch}.attention.head_count`,
      `expected query heads, got ${headCounts ? 0 : 'no such key'}`,
    );
  }
  const layers = layerShapes(keys, arch, hiddenSize, numHeads, headCounts);
  const cached = layers.filter((layer) => layer.kind !== 'linear');
  const largest = (of: (layer: LayerShape) => number) =>
    cached.reduce((most, layer) => Math.max(most, of(layer)), 0);
  const widths = keys.perLayer(numLayers, `${arch}.feed_forward_length`);
  const tokens = metadata.get('tokenizer.ggml.tokens');
  const shape: ModelShape = {
    modelType: arch,
    numLayers,
    numHeads,
    numKeyValueHeads: largest((layer) => layer.numKeyValueHeads),
    headDim: largest((layer) => layer.keyHeadDim),
    valueHeadDim: largest((layer) => layer.valueHeadDim),
    hiddenSize,
    intermediateSize: widths === undefined ? undefined : Math.max(...widths),
    vocabSize:
      keys.int(`${arch}.vocab_size`) ??
      tensors.get('token_embd.weight')?.shape[0] ??
      (Array.isArray(tokens) ? tokens.length : undefined),
    maxPositionEmbeddings: keys.int(`${arch}.context_length`),
    // A file without tensors (a vocabulary, a first shard) cannot tell.
    tiedEmbeddings: tensors.has('token_embd.weight') ? !tensors.has('output.weight') : undefined,
    layers,
  };
  const unknown = unknownGgufKeys(metadata, keys.asked, arch);
  return freezeShape(file, unknown === undefined ? shape : { ...shape, warnings: [unknown] }, {
    heads: `${arch}.attention.head_count`,
    keyValueHeads: `${arch}.attention.head_count_kv`,
  });
}

/** The layers a pass goes through: `block_count` without those that only draft tokens, times the loops. */
function layerCount(keys: KeyReader, arch: string): number {
  const blocks = keys.layerCount(`${arch}.decoder_block_count`, `${arch}.block_count`);
  // Granite Switch counts a layer of another use here.
  const drafts = keys.perLayer(1, `${arch}.nextn_predict_layers`)?.[0] ?? 0;
  const own = drafts < blocks && arch !== 'graniteswitch' ? blocks - drafts : blocks;
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
  const shared = keys.perLayer(1, `${arch}.attention.shared_kv_layers`)?.[0];
  // llama.cpp takes 20 layers with a cache of their own for every Gemma 3n.
  const firstShared = shared === undefined && arch === 'gemma3n' ? 20 : numLayers - (shared ?? 0);
  return counts.map((numKeyValueHeads, i): LayerShape => {
    // No K/V heads, or no query heads: a state-space, convolution or feed-forward layer of a hybrid model.
    if (numKeyValueHeads === 0 || headCounts[i] === 0 || linear(i)) {
      return { kind: 'linear', numKeyValueHeads: 0, keyHeadDim: 0, valueHeadDim: 0 };
    }
    const window = slides(i) ? windows?.[i % windows.length] : undefined;
    const isSliding = window !== undefined && window > 0;
    const { latent, ...head } = isSliding ? sliding : full;
    const own = headCounts[i] !== numHeads && { numHeads: headCounts[i] };
    const span = isSliding ? { window } : {};
    const index = indexed(i) && { indexKeyDim: keys.needInt(`${arch}.attention.indexer.key_length`) };
    const kind =
      i >= firstShared ? 'shared' : isSliding ? 'sliding' : latent === undefined ? 'full' : 'latent';
    if (latent !== undefined) {
      return {
        kind,
        ...own,
        numKeyValueHeads: headCounts[i],
        ...head,
        latent: { ...latent },
        ...span,
        ...index,
      };
    }
    return { kind, ...own, numKeyValueHeads, ...head, ...span, ...index };
  });
}

/** @param suffix `_swa` for the sliding layers, which may have dims of their own */
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
    // Newer files put the latent row in key_length (rank + rope) and the expanded heads in *_mla; older ones the expanded heads.
    const split = keys.find(own('key_length_mla')) !== undefined;
    const dims = [`${arch}.rope.dimension_count${suffix}`, `${arch}.rope.dimension_count`];
    return {
      keyHeadDim: keys.needInt(...own('key_length_mla'), ...own('key_length')),
      valueHeadDim: keys.needInt(...own('value_length_mla'), ...own('value_length')),
      latent: {
        rank,
        // 0 dims rotate in models without positions.
        ropeDim: keys.perLayer(1, ...dims)?.[0] ?? keys.needInt(...dims),
        ...(!split && { expandedInLlamaCpp: true }),
      },
    };
  }
  const keyHeadDim = keys.int(...own('key_length'));
  const valueHeadDim = keys.int(...own('value_length'));
  if ((keyHeadDim === undefined || valueHeadDim === undefined) && hiddenSize % numHeads !== 0) {
    throw keys.fail(
      `${arch}.attention.head_count`,
      `expected a divisor of embedding_length ${hiddenSize} where key_length or value_length is absent, got ${numHeads}`,
    );
  }
  return {
    keyHeadDim: keyHeadDim ?? hiddenSize / numHeads,
    valueHeadDim: valueHeadDim ?? hiddenSize / numHeads,
  };
}

/** Keys seen by a sliding layer: one number, or one per layer with 0 for a full one. */
function windowsOf(keys: KeyReader, arch: string, numLayers: number): readonly number[] | undefined {
  const rule = Object.hasOwn(SLIDING, arch) ? SLIDING[arch] : undefined;
  const key = `${arch}.attention.sliding_window`;
  if (keys.list(key) !== undefined) return keys.perLayer(numLayers, key);
  const stated = keys.perLayer(1, key)?.[0];
  if (stated === 0) return undefined;
  const window = stated === undefined ? rule?.window : (rule?.fixed ?? stated);
  return window === undefined ? undefined : [window];
}

function slidingLayers(keys: KeyReader, arch: string, numLayers: number): (layer: number) => boolean {
  const key = `${arch}.attention.sliding_window_pattern`;
  const flags = keys.list(key);
  if (flags !== undefined) {
    if (flags.length < numLayers) throw keys.fail(key, `expected ${numLayers} layers, got ${flags.length}`);
    return (i) => Boolean(flags[i]);
  }
  const rule = Object.hasOwn(SLIDING, arch) ? SLIDING[arch] : undefined;
  const period = keys.int(key) ?? rule?.period;
  if (period === undefined) return () => true;
  return rule?.denseFirst === true ? (i) => i % period !== 0 : (i) => i % period < period - 1;
}

function linearLayers(keys: KeyReader, arch: string): (layer: number) => boolean {
  const flags = keys.list(`${arch}.attention.recurrent_layers`);
  if (flags !== undefined) return (i) => Boolean(flags[i]);
  const interval = keys.int(`${arch}.full_attention_interval`);
  const period = interval ?? (Object.hasOwn(LINEAR, arch) ? LINEAR[arch] : undefined);
  return period === undefined ? () => false : (i) => (i + 1) % period !== 0;
}

/** Layers that cache a key of an indexer. */
function indexedLayers(keys: KeyReader, arch: string): (layer: number) => boolean {
  if (keys.int(`${arch}.attention.indexer.key_length`) === undefined) return () => false;
  const types = keys.list(`${arch}.attention.indexer.types`);
  if (types !== undefined) return (i) => Boolean(types[i]);
  if (arch === 'minimax-m3') {
    const dense = keys.perLayer(1, `${arch}.leading_dense_block_count`)?.[0] ?? 0;
    return (i) => i >= dense;
  }
  // GLM 5.2, known by its context, has the choice of every fourth layer shared by the three after it.
  const contextLength = keys.int(`${arch}.context_length`) ?? 0;
  if (arch === 'glm-dsa' && contextLength >= 1 << 20) return (i) => i < 2 || (i - 2) % 4 === 0;
  return () => true;
}
