/**
 * A model's shape from a GGUF header: the keys `{arch}.block_count`, `{arch}.attention.head_count_kv` and so on. Layer patterns
 * are not in older files, so the rule of each architecture stands here.
 *
 * Source: gguf-py constants.py (keys), llama.cpp llama-model.cpp (`set_swa_pattern`, MLA sizes).
 */
import type { GgufHeader } from './gguf.ts';
import { KeyReader } from './key-reader.ts';
import { freezeShape, type LayerShape, type ModelShape } from './shape-types.ts';

/** Layer i slides when i % period < period - 1; 1 would mean nowhere. `window` where files leave it out. */
const PERIODS: Readonly<Record<string, { readonly period: number; readonly window?: number }>> = {
  gemma2: { period: 2, window: 4096 },
  gemma3: { period: 6 },
  gemma3n: { period: 5 },
  cohere2: { period: 4 },
  exaone4: { period: 4 },
  olmo2: { period: 4 },
  'gpt-oss': { period: 2 },
};

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
  const keys = new KeyReader(file, (key) => metadata.get(key));
  if (typeof arch !== 'string') throw keys.fail('general.architecture', 'expected a string, got none');
  const numLayers = keys.layerCount(`${arch}.decoder_block_count`, `${arch}.block_count`);
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
  return freezeShape(file, shape, {
    heads: `${arch}.attention.head_count`,
    keyValueHeads: `${arch}.attention.head_count_kv`,
  });
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
  const head = headShape(keys, arch, hiddenSize, numHeads);
  const slidingHead: Head = {
    keyHeadDim: keys.int(`${arch}.attention.key_length_swa`) ?? head.keyHeadDim,
    valueHeadDim: keys.int(`${arch}.attention.value_length_swa`) ?? head.valueHeadDim,
  };
  const window = windowOf(keys, arch);
  const slides = slidingLayers(keys, arch, numLayers);
  const interval = keys.int(`${arch}.full_attention_interval`);
  const firstShared = numLayers - (keys.perLayer(1, `${arch}.attention.shared_kv_layers`)?.[0] ?? 0);
  return counts.map((numKeyValueHeads, i): LayerShape => {
    // No K/V heads, or no query heads: a state-space, convolution or feed-forward layer of a hybrid model.
    if (
      numKeyValueHeads === 0 ||
      headCounts[i] === 0 ||
      (interval !== undefined && (i + 1) % interval !== 0)
    ) {
      return { kind: 'linear', numKeyValueHeads: 0, keyHeadDim: 0, valueHeadDim: 0 };
    }
    if (head.latent !== undefined) {
      return { kind: 'latent', numKeyValueHeads: numHeads, ...head, latent: { ...head.latent } };
    }
    const sliding = window !== undefined && slides(i);
    const span = sliding ? { window } : {};
    const kind = i >= firstShared ? 'shared' : sliding ? 'sliding' : 'full';
    return { kind, numKeyValueHeads, ...(sliding ? slidingHead : head), ...span };
  });
}

function headShape(keys: KeyReader, arch: string, hiddenSize: number, numHeads: number): Head {
  const stated = keys.int(`${arch}.attention.key_length`);
  const rank = keys.int(`${arch}.attention.kv_lora_rank`);
  if (rank !== undefined) {
    // Newer files put the latent row in key_length (rank + rope) and the expanded heads in *_mla; older ones the expanded heads.
    return {
      keyHeadDim: keys.needInt(`${arch}.attention.key_length_mla`, `${arch}.attention.key_length`),
      valueHeadDim: keys.needInt(`${arch}.attention.value_length_mla`, `${arch}.attention.value_length`),
      latent: { rank, ropeDim: keys.needInt(`${arch}.rope.dimension_count`) },
    };
  }
  const valueHeadDim = keys.int(`${arch}.attention.value_length`);
  if ((stated === undefined || valueHeadDim === undefined) && hiddenSize % numHeads !== 0) {
    throw keys.fail(
      `${arch}.attention.head_count`,
      `expected a divisor of embedding_length ${hiddenSize} where key_length or value_length is absent, got ${numHeads}`,
    );
  }
  return {
    keyHeadDim: stated ?? hiddenSize / numHeads,
    valueHeadDim: valueHeadDim ?? hiddenSize / numHeads,
  };
}

function windowOf(keys: KeyReader, arch: string): number | undefined {
  const stated = keys.perLayer(1, `${arch}.attention.sliding_window`)?.[0];
  return stated === 0 ? undefined : (stated ?? PERIODS[arch]?.window);
}

function slidingLayers(keys: KeyReader, arch: string, numLayers: number): (layer: number) => boolean {
  const key = `${arch}.attention.sliding_window_pattern`;
  const flags = keys.list(key);
  if (flags !== undefined) {
    if (flags.length < numLayers) throw keys.fail(key, `expected ${numLayers} layers, got ${flags.length}`);
    return (i) => Boolean(flags[i]);
  }
  const period = keys.int(key) ?? PERIODS[arch]?.period;
  return period === undefined ? () => true : (i) => i % period < period - 1;
}
