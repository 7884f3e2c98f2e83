/**
 * The filters of sampling: each sets the logits of the tokens that are not to be drawn to -Infinity.
 *
 * None sorts the vocabulary. A row whose largest logit is infinite is left as it is.
 *
 * Source: transformers/generation/logits_process.py (TopKLogitsWarper, TopPLogitsWarper, MinPLogitsWarper,
 * TypicalLogitsWarper), with sums in double precision.
 */

/** Keeps the k largest logits, and those equal to the smallest of them. */
export function filterTopK(logits: Float32Array, k: number): void {
  if (k < logits.length) maskBelow(logits, kthLargest(logits, k));
}

/**
 * Keeps the likeliest tokens until their probabilities sum to p; at least one; of equal logits the lower ids.
 */
export function filterTopP(logits: Float32Array, p: number): void {
  const max = maximum(logits);
  if (!Number.isFinite(max)) return;
  let total = 0;
  for (let id = 0; id < logits.length; id++) {
    if (logits[id] !== Number.NEGATIVE_INFINITY) total += Math.exp(logits[id] - max);
  }
  // Tokens of probability up to (1 - p) / V sum to at most 1 - p, so they can be dropped at once. The bound is
  // slightly lower, so that rounding drops no token that belongs.
  const floor = max + Math.log((total * (1 - p)) / logits.length) - 1e-3;
  const ids = idsFrom(logits, floor);
  const keys = new Float32Array(ids.length);
  for (let i = 0; i < ids.length; i++) keys[i] = -logits[ids[i]];
  const weights = weightsOf(logits, ids, max);
  const { last, below } = boundary(keys, weights, p * total);
  let held = below;
  maskBelow(logits, -last);
  for (let i = 0; i < ids.length; i++) {
    if (keys[i] !== last) continue;
    if (held >= p * total) logits[ids[i]] = Number.NEGATIVE_INFINITY;
    held += weights[i];
  }
}

/** Keeps the tokens at least p times as likely as the likeliest. */
export function filterMinP(logits: Float32Array, p: number): void {
  const max = maximum(logits);
  if (Number.isFinite(max)) maskBelow(logits, max + Math.log(p));
}

/**
 * Keeps the tokens whose -log(probability) is closest to the entropy of the row until their probabilities sum
 * to p; at least one, and those equally close as the last.
 */
export function filterTypicalP(logits: Float32Array, p: number): void {
  const max = maximum(logits);
  if (!Number.isFinite(max)) return;
  const ids = idsFrom(logits, -Number.MAX_VALUE);
  const weights = weightsOf(logits, ids, max);
  let total = 0;
  let weighted = 0;
  for (let i = 0; i < ids.length; i++) {
    total += weights[i];
    weighted += weights[i] * (logits[ids[i]] - max);
  }
  // -log(probability) is max + log(total) - logit, and the entropy its mean, so log(total) cancels.
  const mean = max + weighted / total;
  const keys = new Float32Array(ids.length);
  for (let i = 0; i < ids.length; i++) keys[i] = Math.abs(logits[ids[i]] - mean);
  const { last } = boundary(keys, weights, p * total);
  for (let i = 0; i < ids.length; i++) {
    if (keys[i] > last) logits[ids[i]] = Number.NEGATIVE_INFINITY;
  }
}

/** The largest logit, -Infinity of none. */
export function maximum(logits: Float32Array): number {
  let max = Number.NEGATIVE_INFINITY;
  for (let id = 0; id < logits.length; id++) if (logits[id] > max) max = logits[id];
  return max;
}

function maskBelow(logits: Float32Array, floor: number): void {
  for (let id = 0; id < logits.length; id++) {
    if (logits[id] < floor) logits[id] = Number.NEGATIVE_INFINITY;
  }
}

/** The tokens whose logit is at least `floor`, by ascending id. */
export function idsFrom(logits: Float32Array, floor: number): Uint32Array {
  const ids = new Uint32Array(logits.length);
  let count = 0;
  for (let id = 0; id < logits.length; id++) {
    if (logits[id] >= floor) ids[count++] = id;
  }
  return ids.subarray(0, count);
}

/** The probabilities of some tokens times a constant: a logit of `max` weighs 1. */
export function weightsOf(logits: Float32Array, ids: Uint32Array, max: number): Float64Array {
  const weights = new Float64Array(ids.length);
  for (let i = 0; i < ids.length; i++) weights[i] = Math.exp(logits[ids[i]] - max);
  return weights;
}

/** The k-th largest logit: one pass with a min-heap of the k largest so far. */
function kthLargest(logits: Float32Array, k: number): number {
  const heap = logits.slice(0, k).sort();
  for (let i = k; i < logits.length; i++) {
    const value = logits[i];
    if (!(value > heap[0])) continue;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= k) break;
      if (child + 1 < k && heap[child + 1] < heap[child]) child++;
      if (heap[child] >= value) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = value;
  }
  return heap[0];
}

/**
 * The smallest key such that the items with keys up to it weigh at least `mass`; the largest key where all
 * weigh less. Found without sorting, by bisection of the range of keys that holds it: the items still in
 * question are `order[begin … end)`.
 * @returns that key as `last`, and as `below` the weight of the items with smaller keys
 */
function boundary(
  keys: Float32Array,
  weights: Float64Array,
  mass: number,
): { readonly last: number; readonly below: number } {
  const order = new Uint32Array(keys.length);
  for (let i = 0; i < order.length; i++) order[i] = i;
  let begin = 0;
  let end = order.length;
  let below = 0;
  for (;;) {
    let low = Number.POSITIVE_INFINITY;
    let high = Number.NEGATIVE_INFINITY;
    for (let i = begin; i < end; i++) {
      const key = keys[order[i]];
      if (key < low) low = key;
      if (key > high) high = key;
    }
    if (!(low < high)) return { last: low, below };
    // Below `high`, because keys are f32 and this is f64.
    const pivot = (low + high) / 2;
    let split = begin;
    let lower = 0;
    for (let i = begin; i < end; i++) {
      const item = order[i];
      if (keys[item] > pivot) continue;
      lower += weights[item];
      order[i] = order[split];
      order[split++] = item;
    }
    if (below + lower >= mass) {
      end = split;
    } else {
      below += lower;
      begin = split;
    }
  }
}
