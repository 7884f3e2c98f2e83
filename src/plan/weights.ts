/** The weights of a model by kind and storage type, from the tensors of its files. */
import type { StorageType } from '../format/storage-type.ts';
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
  [/norm|bias$|(^|[._])ln_|sinks|(\.|per_expert_)scale$/, 'other'],
  [
    /(token_embd|position_embd|embed_tokens|embed_positions|word_embeddings|embed_in|wte|wpe)[^.]*\.weight$/,
    'embedding',
  ],
  [/^(output|(.*\.)?lm_head|embed_out)\.weight$/, 'head'],
  [/_exps\.|\.experts\./, 'experts'],
  [/ffn|mlp|moe|router|feed_forward|_shexp|dense_(h_to_4h|4h_to_h)|\.fc[12]\./, 'mlp'],
  [/attn|attention|[qkv]_proj|o_proj|query_key_value/, 'attention'],
];

/** @param tensors of all files of a model, by name */
export function weightGroups(tensors: ReadonlyMap<string, TensorInfo>): readonly WeightGroup[] {
  return groupedWeights(
    [...tensors].map(([name, { dtype, shape, byteLength }]) => ({
      kind: NAMES.find(([pattern]) => pattern.test(name))?.[1] ?? 'other',
      dtype,
      parameters: shape.reduce((product, dim) => product * dim, 1),
      bytes: byteLength,
    })),
  );
}

/** One group per kind and type, without empty ones, in the order of the kinds. */
export function groupedWeights(parts: readonly WeightGroup[]): readonly WeightGroup[] {
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
