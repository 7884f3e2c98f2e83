/**
 * The weights that a model's shape implies, for models without files, without biases:
 *
 *   attention  q, k, v and output: N·H·D + 2·K·H·D + N·H·D per layer; MLA has its own five
 *   mlp        3·D·I per dense layer, 2·D·I without a gate
 *   experts    3·D·I per expert; routers and shared experts, which every token reads, are in mlp
 *
 * Matrices have their names of GGUF, since llama.cpp's mixtures of types go by name.
 */
import { familyFacts } from '../format/families.ts';
import { MIXTURE_TYPES, mixedType } from '../format/gguf-mixture.ts';
import type { LayerShape, ModelShape } from '../format/shape-types.ts';
import { type StorageType, storageLayout } from '../format/storage-type.ts';
import { groupedWeights, type WeightGroup, type WeightKind } from './weights.ts';

/** Name without `.weight`, rows, and columns. */
type Matrix = readonly [kind: WeightKind, name: string, rows: number, columns: number];

/**
 * @param dtype of the matrices. For the types that `gqa quantize` writes, each matrix has the type that it has
 *   in such a file. Norms are f32 beside block types, as GGUF has them.
 * @throws RangeError for a shape without the sizes of its vocabulary or its feed-forward layers
 */
export function countWeights(shape: ModelShape, dtype: StorageType): readonly WeightGroup[] {
  checkSizes(shape);
  const isMixture = MIXTURE_TYPES.includes(dtype);
  const group = (kind: WeightKind, type: StorageType, parameters: number): WeightGroup => {
    const { blockLength, blockBytes } = storageLayout(type);
    return { kind, dtype: type, parameters, bytes: Math.ceil(parameters / blockLength) * blockBytes };
  };
  const matrices = matricesOf(shape).map(([kind, name, rows, columns]) => {
    const type = isMixture ? (mixedType(`${name}.weight`, columns, dtype, shape) ?? 'f32') : dtype;
    return group(kind, type, rows * columns);
  });
  const isBlocks = storageLayout(dtype).blockLength > 1;
  const norms = (2 * shape.numLayers + 1) * shape.hiddenSize;
  return groupedWeights([...matrices, group('other', isBlocks ? 'f32' : dtype, norms)]);
}

/** A config without them is enough for a KV cache. */
function checkSizes({ vocabSize, intermediateSize, experts, numLayers }: ModelShape): void {
  const hasDense = numLayers > (experts?.numLayers ?? 0);
  const missing = vocabSize === undefined ? 'vocab_size' : 'intermediate_size';
  if (vocabSize !== undefined && (intermediateSize !== undefined || !hasDense)) return;
  throw new RangeError(`planMemory: expected ${missing} of a model whose weights are counted, got none`);
}

function matricesOf(shape: ModelShape): readonly Matrix[] {
  const { hiddenSize: D, vocabSize: V = 0, experts, layers } = shape;
  const positions = familyFacts(shape.modelType).learnedPositions ? (shape.maxPositionEmbeddings ?? 0) : 0;
  // The first layers are the dense ones where only some are mixtures.
  const dense = layers.length - (experts?.numLayers ?? 0);
  return [
    ['embedding', 'token_embd', V, D],
    ['embedding', 'position_embd', positions, D],
    ...layerInputs(shape),
    ...layers.flatMap((layer, i) => [
      ...attention(shape, layer, `blk.${i}.`),
      ...(i < dense ? feedForward(shape, layer, `blk.${i}.`) : mixture(shape, `blk.${i}.`)),
    ]),
    ['head', 'output', shape.tiedEmbeddings ? 0 : V, D],
  ];
}

function attention(shape: ModelShape, layer: LayerShape, at: string): readonly Matrix[] {
  const { hiddenSize: D } = shape;
  const { kind, numHeads: N = shape.numHeads, numKeyValueHeads: K, keyHeadDim: H, valueHeadDim: Hv } = layer;
  if (kind === 'linear') return [];
  const named = (name: string, rows: number, columns: number): Matrix => [
    'attention',
    `${at}attn_${name}`,
    rows,
    columns,
  ];
  const output = named('output', D, N * Hv);
  if (layer.latent === undefined) {
    const isFused = familyFacts(shape.modelType).gguf?.fusedQueryKeyValue;
    if (isFused) return [named('qkv', N * H + K * (H + Hv), D), output];
    const query = named('q', N * H, D);
    if (kind === 'shared') return [query, output];
    const value = named('v', layer.keysAreValues ? 0 : K * Hv, D);
    return [query, named('k', K * H, D), value, output];
  }
  const { rank, ropeDim, queryRank, expandedInLlamaCpp } = layer.latent;
  const plain = H - ropeDim;
  return [
    ...(queryRank === undefined
      ? [named('q', N * H, D)]
      : [named('q_a', queryRank, D), named('q_b', N * H, queryRank)]),
    named('kv_a_mqa', rank + ropeDim, D),
    ...(expandedInLlamaCpp
      ? [named('kv_b', N * (plain + Hv), rank)]
      : [named('k_b', N * rank, plain), named('v_b', N * Hv, rank)]),
    output,
  ];
}

/** The table, the projection of the embeddings, and the two projections of each layer. */
function layerInputs({ layerInputs: inputs, hiddenSize: D, layers }: ModelShape): readonly Matrix[] {
  if (inputs === undefined) return [];
  const { dim: P, vocabSize } = inputs;
  return [
    ['embedding', 'per_layer_token_embd', vocabSize, layers.length * P],
    ['other', 'per_layer_model_proj', layers.length * P, D],
    ...layers.flatMap((_, i): Matrix[] => [
      ['other', `blk.${i}.inp_gate`, P, D],
      ['other', `blk.${i}.proj`, D, P],
    ]),
  ];
}

function feedForward(
  { hiddenSize: D, intermediateSize = 0, gatedMlp }: ModelShape,
  { intermediateSize: I = intermediateSize }: LayerShape,
  at: string,
): Matrix[] {
  return [
    ['mlp', `${at}ffn_gate`, gatedMlp ? I : 0, D],
    ['mlp', `${at}ffn_up`, I, D],
    ['mlp', `${at}ffn_down`, D, I],
  ];
}

function mixture({ hiddenSize: D, experts }: ModelShape, at: string): Matrix[] {
  const { numExperts: E = 0, intermediateSize: I = 0, sharedIntermediateSize: shared = 0 } = experts ?? {};
  return [
    ['mlp', `${at}ffn_gate_inp`, E, D],
    ['experts', `${at}ffn_gate_exps`, E * I, D],
    ['experts', `${at}ffn_up_exps`, E * I, D],
    ['experts', `${at}ffn_down_exps`, E * D, I],
    ['mlp', `${at}ffn_gate_shexp`, shared, D],
    ['mlp', `${at}ffn_up_shexp`, shared, D],
    ['mlp', `${at}ffn_down_shexp`, D, shared],
  ];
}
