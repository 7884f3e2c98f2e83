/**
 * Conversion as weighted sums: each new head is a weighted sum of old heads, each optionally multiplied by a
 * matrix. A method chooses the sums for q, k, v and the columns of o; convert-tensor.ts computes them.
 */

/** One term of the sum that makes a new head. */
export interface HeadSource {
  /** The old head. */
  readonly head: number;
  /** Factor of this head in the sum. */
  readonly weight: number;
  /** `[H, H]`, row-major: new = weight * matrix @ old over the H values of a head. Absent: the identity. */
  readonly matrix?: Float64Array;
}

/** One new head. Without sources: random, by the method `random`. */
export type HeadMix = readonly HeadSource[];

/** The heads of one layer after conversion; `output` describes the columns of o that read each query head. */
export interface LayerMix {
  /** N */
  readonly query: readonly HeadMix[];
  /** K' */
  readonly key: readonly HeadMix[];
  /** K' */
  readonly value: readonly HeadMix[];
  /** N */
  readonly output: readonly HeadMix[];
  /** The old key/value heads of each new one; in the order of the new query heads. */
  readonly groups: readonly (readonly number[])[];
  /**
   * With aligned heads: the matrices that map the new head of a group back to each old head's K and V, `[H,
   * H]`; by old head.
   */
  readonly restore?: { readonly key: readonly Float64Array[]; readonly value: readonly Float64Array[] };
  /** Fitted weights, in place of the sums; biases are still the sums. */
  readonly weights?: LayerWeights;
}

/** The new projections of a layer as numbers, row-major. */
export interface LayerWeights {
  /** `[N * H, D]` */
  readonly query: Float32Array;
  /** `[K' * H, D]` */
  readonly key: Float32Array;
  /** `[K' * H, D]` */
  readonly value: Float32Array;
  /** `[N * H, D]`: o transposed, a row per column of it. */
  readonly output: Float32Array;
}

/**
 * The methods of the GQA paper to merge a group of heads: their mean, their first, or a fresh random head.
 */
export type PoolingMethod = 'mean' | 'first' | 'random';

/** The identity: each head unchanged. */
export function sameHeads(count: number): HeadMix[] {
  return Array.from({ length: count }, (_, head) => [{ head, weight: 1 }]);
}

/** Neighbours together: `[[0, 1, 2], [3, 4, 5]]` for 6 heads in 2 groups. */
export function neighbourGroups(heads: number, groups: number): number[][] {
  const size = heads / groups;
  return Array.from({ length: groups }, (_, g) => Array.from({ length: size }, (_, i) => g * size + i));
}

/** The paper's three methods; for more heads, each old head is repeated, whatever the method. */
export function layerMix(method: PoolingMethod, numHeads: number, before: number, after: number): LayerMix {
  const same = sameHeads(numHeads);
  if (after >= before) {
    const repeat = after / before;
    const repeated = Array.from({ length: after }, (_, head) => [
      { head: Math.floor(head / repeat), weight: 1 },
    ]);
    const groups = repeated.map(([{ head }]) => [head]);
    return { query: same, key: repeated, value: repeated, output: same, groups };
  }
  const groups = neighbourGroups(before, after);
  const pooled = groups.map((heads): HeadMix => {
    if (method === 'random') return [];
    if (method === 'first') return [{ head: heads[0], weight: 1 }];
    return heads.map((head) => ({ head, weight: 1 / heads.length }));
  });
  return { query: same, key: pooled, value: pooled, output: same, groups };
}

/** Whether a list of mixes leaves all heads unchanged. */
export function isSame(mixes: readonly HeadMix[], before: number): boolean {
  return mixes.length === before && mixes.every((mix, head) => isCopy(mix) && mix[0].head === head);
}

/** Whether a sum is one unchanged term. */
export function isCopy(sum: readonly Pick<HeadSource, 'weight' | 'matrix'>[]): boolean {
  return sum.length === 1 && sum[0].weight === 1 && sum[0].matrix === undefined;
}
