/**
 * The weights of a model by kind and storage type: from the tensors of its files, or, without these, counted
 * from its shape.
 *
 *   attention  N·H·D + 2·K·H·D + N·H·D per layer (the projections; MLA: its own five)
 *   mlp        3·D·I per dense layer, 2·D·I without a gate
 *   experts    3·D·I per expert; routers and shared experts, which every token reads, are in mlp
 */
import { familyFacts } from '../format/families.ts';
import type { LayerShape, ModelShape } from '../format/shape-types.ts';
import { type StorageType, storageLayout } from '../format/storage-type.ts';
import type { TensorInfo } from '../format/tensor-info.ts';

/**
 * `embedding`: tables of which a pass reads single rows. `head`: the output head, where it is a matrix of its
 * own. `experts`: matrices of which a token reads its own experts'. `other`: norms, biases, and what is none
 * of these, such as a vision tower.
 */
export type WeightKind = 'embedding' | 'attention' | 'mlp' | 'experts' | 'head' | 'other';

/** The weights of one kind and storage type. */
export interface WeightGroup {
  readonly kind: WeightKind;
  readonly dtype: StorageType;
  readonly parameters: number;
  readonly bytes: number;
}

/** Of both Hugging Face's and GGUF's names; the first that matches counts. */
const NAMES: readonly (readonly [RegExp, WeightKind])[] = [
  [/norm|bias$|(^|[._])ln_|sinks/, 'other'],
  [
    /(token_embd|position_embd|embed_tokens|embed_positions|word_embeddings|embed_in|wte|wpe)[^.]*\.weight$/,
    'embedding',
  ],
  [/^(output|(.*\.)?lm_head|embed_out)\.weight$/, 'head'],
  [/_exps\.|\.experts\./, 'experts'],
  [/ffn|mlp|moe|feed_forward|_shexp|dense_(h_to_4h|4h_to_h)|\.fc[12]\./, 'mlp'],
  [/attn|attention|[qkv]_proj|o_proj|query_key_value/, 'attention'],
];

/** @param tensors of all files of a model, by name */
export function weightGroups(tensors: ReadonlyMap<string, TensorInfo>): readonly WeightGroup[] {
  return grouped(
    [...tensors].map(([name, { dtype, shape, byteLength }]) => ({
      kind: NAMES.find(([pattern]) => pattern.test(name))?.[1] ?? 'other',
      dtype,
      parameters: shape.reduce((product, dim) => product * dim, 1),
      bytes: byteLength,
    })),
  );
}

/**
 * The matrices and norms that a shape implies, without biases.
 * @param dtype of the matrices; norms are f32 beside block types, as GGUF has them
 */
export function countWeights(shape: ModelShape, dtype: StorageType): readonly WeightGroup[] {
  const { hiddenSize: D, vocabSize = 0, experts, layers } = shape;
  const I = shape.intermediateSize ?? 0;
  const matrices = shape.gatedMlp ? 3 : 2;
  const { numLayers: mixed = 0, numExperts = 0 } = experts ?? {};
  const { intermediateSize: expertWidth = 0, sharedIntermediateSize: sharedWidth = 0 } = experts ?? {};
  const dense = layers.length - mixed;
  const positions = familyFacts(shape.modelType).learnedPositions ? (shape.maxPositionEmbeddings ?? 0) : 0;
  const counts: readonly (readonly [WeightKind, number])[] = [
    ['embedding', (vocabSize + positions) * D],
    ['attention', layers.reduce((sum, layer) => sum + attentionCount(shape, layer), 0)],
    ['mlp', dense * matrices * D * I + mixed * D * (3 * sharedWidth + numExperts)],
    ['experts', mixed * numExperts * 3 * D * expertWidth],
    ['head', shape.tiedEmbeddings ? 0 : vocabSize * D],
    ['other', (2 * layers.length + 1) * D],
  ];
  const { blockLength, blockBytes } = storageLayout(dtype);
  return grouped(
    counts.map(([kind, parameters]) =>
      kind === 'other' && blockLength > 1
        ? { kind, dtype: 'f32', parameters, bytes: 4 * parameters }
        : { kind, dtype, parameters, bytes: Math.ceil(parameters / blockLength) * blockBytes },
    ),
  );
}

function attentionCount(shape: ModelShape, layer: LayerShape): number {
  const { hiddenSize: D } = shape;
  const { kind, numHeads: N = shape.numHeads, numKeyValueHeads: K, keyHeadDim: H, valueHeadDim: Hv } = layer;
  if (kind === 'linear') return 0;
  const output = N * Hv * D;
  if (layer.latent === undefined) return N * H * D + K * (H + Hv) * D + output;
  const { rank, ropeDim, queryRank } = layer.latent;
  const query = queryRank === undefined ? N * H * D : queryRank * (D + N * H);
  return query + (rank + ropeDim) * D + rank * N * (H - ropeDim + Hv) + output;
}

/** One group per kind and type, without empty ones, in the order of the kinds. */
function grouped(parts: readonly WeightGroup[]): readonly WeightGroup[] {
  const groups = new Map<string, WeightGroup>();
  for (const part of parts) {
    const key = `${part.kind} ${part.dtype}`;
    const before = groups.get(key);
    const parameters = part.parameters + (before?.parameters ?? 0);
    if (parameters > 0) groups.set(key, { ...part, parameters, bytes: part.bytes + (before?.bytes ?? 0) });
  }
  const order = ['embedding', 'attention', 'mlp', 'experts', 'head', 'other'];
  const sorted = [...groups.values()].sort((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind));
  return Object.freeze(sorted.map((group) => Object.freeze(group)));
}
