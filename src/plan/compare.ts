/** The cache of a model with other attention: K from N down to 1, or a latent row in place of heads. */
import { anything, checkPositiveInteger, listOfNumbers } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import type { LayerShape, ModelShape } from '../format/shape-types.ts';
import { type KvCachePlan, planKvCache } from './plan-kv-cache.ts';
import { PLAN_KINDS, type PlanOptions } from './runtime-rules.ts';
import { type PlanSource, shapeOf } from './shape-of.ts';

/** A number of heads, and the size of its cache. */
export interface HeadChoice {
  /** MHA has K = N, MQA has K = 1, GQA a K between; MLA has one latent row per token. */
  readonly attention: 'MHA' | 'GQA' | 'MQA' | 'MLA';
  /** K; undefined for MLA. */
  readonly numKeyValueHeads: number | undefined;
  /** Whether this is the model's own attention. */
  readonly isOwn: boolean;
  /** Its cache. */
  readonly plan: KvCachePlan;
  /** `totalBytes` of K = N divided by this one's. */
  readonly saving: number;
}

/** Options of `compareHeads`. */
export interface CompareOptions extends Omit<PlanOptions, 'numKeyValueHeads'> {
  /** The values of K to compare; default N, the model's own, and those of 8, 4, 2, 1 that divide N. */
  readonly heads?: readonly number[];
  /** The latent row to compare with; default the model's own, or else DeepSeek's 512 + 64. */
  readonly latent?: { readonly rank: number; readonly ropeDim: number };
}

const { numKeyValueHeads: _, ...REST } = PLAN_KINDS;
const OPTIONS = optionKinds<CompareOptions>({ ...REST, heads: listOfNumbers, latent: anything });
const LATENT = optionKinds<NonNullable<CompareOptions['latent']>>({
  rank: checkPositiveInteger,
  ropeDim: checkPositiveInteger,
});

/**
 * Plans the same model with other attention. It compares memory, not quality.
 * @throws as `planKvCache`
 * @returns from most to fewest heads, then MLA
 * @example
 * const choices = compareHeads('llama-3-8b', { contextLength: 8192 });
 * choices.map(({ numKeyValueHeads, saving }) => [numKeyValueHeads, saving]);
 */
export function compareHeads(source: PlanSource, options: CompareOptions = {}): readonly HeadChoice[] {
  checkOptions('compareHeads', options, OPTIONS);
  const { heads, latent, ...rest } = options;
  if (latent !== undefined) checkOptions('compareHeads: latent', latent, LATENT);
  const shape = shapeOf(source);
  const { numHeads: N } = shape;
  const ownLatent = shape.layers.find((layer) => layer.latent !== undefined)?.latent;
  const uniform = shape.layers.every(
    (layer) => layer.kind === 'linear' || layer.numKeyValueHeads === shape.numKeyValueHeads,
  );
  const own = ownLatent === undefined && uniform ? shape.numKeyValueHeads : undefined;
  const wanted = heads ?? [
    N,
    ...(own === undefined ? [] : [own]),
    ...[8, 4, 2, 1].filter((K) => shape.layers.every((layer) => (layer.numHeads ?? N) % K === 0)),
  ];
  const most = planKvCache(shape, { ...rest, numKeyValueHeads: N });
  const choices = [...new Set(wanted)]
    .sort((a, b) => b - a)
    .map((K): HeadChoice => {
      const plan = planKvCache(shape, { ...rest, numKeyValueHeads: K });
      const attention = K === N ? 'MHA' : K === 1 ? 'MQA' : 'GQA';
      const saving = most.totalBytes / plan.totalBytes;
      return { attention, numKeyValueHeads: K, isOwn: K === own, plan, saving };
    });
  const plan = planKvCache(withLatent(shape, latent ?? ownLatent ?? { rank: 512, ropeDim: 64 }), rest);
  const isOwn = ownLatent !== undefined && (latent === undefined || sameRow(latent, ownLatent));
  const saving = most.totalBytes / plan.totalBytes;
  return [...choices, { attention: 'MLA', numKeyValueHeads: undefined, isOwn, plan, saving }];
}

type Latent = NonNullable<LayerShape['latent']>;

function withLatent(shape: ModelShape, latent: Latent): ModelShape {
  const layers = shape.layers.map((layer): LayerShape => {
    if (layer.kind === 'linear' || layer.kind === 'shared') return layer;
    return { ...layer, kind: layer.window === undefined ? 'latent' : layer.kind, latent };
  });
  return { ...shape, layers };
}

function sameRow(a: Latent, b: Latent): boolean {
  return a.rank === b.rank && a.ropeDim === b.ropeDim;
}
