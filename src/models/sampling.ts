/**
 * From logits to a token: pure functions of one row of logits `[V]`.
 *
 * Filters come in Hugging Face's order and with its meaning, each on what the one before it left:
 * temperature, top-k, top-p, min-p. A draw takes exactly one uniform number, so equal seeds give equal
 * tokens.
 *
 * Source: transformers/generation/logits_process.py (TemperatureLogitsWarper, TopKLogitsWarper,
 * TopPLogitsWarper, MinPLogitsWarper).
 */
import { describe } from '../arguments/kinds.ts';

/** A source of uniform numbers in [0, 1). */
export type RandomSource = () => number;

export interface SamplingOptions {
  /** 0 = the likeliest token, always; otherwise logits are divided by it. */
  readonly temperature: number;
  /** Keep the k largest logits, and those equal to the smallest of them. */
  readonly topK?: number;
  /** Keep the likeliest tokens until their probabilities sum to p; at least one. 1 = all. */
  readonly topP?: number;
  /** Keep tokens at least this fraction as likely as the likeliest. 0 = all. */
  readonly minP?: number;
}

/**
 * Index of the largest logit; the lowest index wins a tie.
 * @throws RangeError when a logit is NaN, or none is above -Infinity: the model or its weights are broken.
 */
export function greedyToken(logits: Float32Array): number {
  let best = -1;
  let max = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < logits.length; i++) {
    const logit = logits[i];
    if (logit > max) {
      max = logit;
      best = i;
    } else if (Number.isNaN(logit)) {
      throw new RangeError(`sampling: expected logits to be numbers, got NaN for token ${i}`);
    }
  }
  if (best < 0)
    throw new RangeError(`sampling: expected a logit above -Infinity among ${logits.length}, got none`);
  return best;
}

/**
 * Draws a token from `softmax(logits / temperature)` after the filters.
 * @param logits `[V]`; read only
 * @param random called once, or not at all at temperature 0
 * @throws as `greedyToken`. Options are checked by `checkSampling`, not here.
 */
export function sampleToken(logits: Float32Array, options: SamplingOptions, random: RandomSource): number {
  const likeliest = greedyToken(logits);
  const { temperature, topK = logits.length, topP = 1, minP = 0 } = options;
  const max = logits[likeliest];
  if (temperature === 0 || max === Number.POSITIVE_INFINITY) return likeliest;

  // e^-746 is 0 in f64, so lower logits cannot be drawn.
  let floor = max - 746 * temperature;
  if (topK < logits.length) floor = Math.max(floor, kthLargest(logits, topK));
  const minPFloor = max + temperature * Math.log(minP);
  if (topP === 1) {
    // Min-p comes last, but may be applied first without top-p, whose mass it would change.
    return draw(candidatesFrom(logits, Math.max(floor, minPFloor), max, temperature), random);
  }

  let total = 0;
  if (topK >= logits.length) {
    for (let id = 0; id < logits.length; id++) total += Math.exp((logits[id] - max) / temperature);
    // Tokens of probability up to (1 - p) / V sum to at most 1 - p, so they can be dropped at once. The bound
    // is slightly lower, so that rounding drops no token that belongs.
    floor = Math.max(floor, max + temperature * (Math.log((total * (1 - topP)) / logits.length) - 1e-3));
  }
  const candidates = candidatesFrom(logits, floor, max, temperature);
  if (total === 0) for (const weight of candidates.weights) total += weight;
  const likely = nucleus(candidates, topP * total);
  return draw(minP > 0 ? keep(likely, (logit) => logit >= minPFloor) : likely, random);
}

/** @throws RangeError naming the option that is out of range. */
export function checkSampling(op: string, options: SamplingOptions): void {
  const { temperature, topK, topP, minP } = options;
  for (const [name, value] of Object.entries({ temperature, topK, topP, minP })) {
    if (value !== undefined && typeof value !== 'number') {
      throw new TypeError(`${op}: expected ${name} to be a number, got ${describe(value)}`);
    }
  }
  if (!(temperature >= 0) || temperature === Number.POSITIVE_INFINITY) {
    throw new RangeError(`${op}: expected temperature >= 0, got ${temperature}`);
  }
  if (topK !== undefined && (!Number.isInteger(topK) || topK < 1)) {
    throw new RangeError(`${op}: expected topK to be a positive integer, got ${topK}`);
  }
  if (topP !== undefined && !(topP > 0 && topP <= 1)) {
    throw new RangeError(`${op}: expected topP in (0, 1], got ${topP}`);
  }
  if (minP !== undefined && !(minP >= 0 && minP <= 1)) {
    throw new RangeError(`${op}: expected minP in [0, 1], got ${minP}`);
  }
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

/** Candidate tokens by ascending id, in arrays that may be changed. */
interface Candidates {
  readonly ids: Uint32Array;
  readonly logits: Float32Array;
  /** Probabilities times a constant: the likeliest token of all has 1. */
  readonly weights: Float64Array;
}

/** The tokens whose logit is at least `floor`. */
function candidatesFrom(logits: Float32Array, floor: number, max: number, temperature: number): Candidates {
  const ids = new Uint32Array(logits.length);
  let count = 0;
  for (let id = 0; id < logits.length; id++) {
    if (logits[id] >= floor) ids[count++] = id;
  }
  const kept = new Float32Array(count);
  const weights = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    kept[i] = logits[ids[i]];
    weights[i] = Math.exp((kept[i] - max) / temperature);
  }
  return { ids: ids.subarray(0, count), logits: kept, weights };
}

function keep(from: Candidates, test: (logit: number, weight: number) => boolean): Candidates {
  const { ids, logits, weights } = from;
  let count = 0;
  for (let i = 0; i < ids.length; i++) {
    if (!test(logits[i], weights[i])) continue;
    ids[count] = ids[i];
    logits[count] = logits[i];
    weights[count++] = weights[i];
  }
  return {
    ids: ids.subarray(0, count),
    logits: logits.subarray(0, count),
    weights: weights.subarray(0, count),
  };
}

/**
 * The most likely tokens with a total probability of `mass`, at least one; of equal logits the lower ids.
 * Found without sorting, by bisection of the range of logits that holds the last of them: the tokens still in
 * question sit in `order[begin … end)`.
 */
function nucleus(from: Candidates, mass: number): Candidates {
  const { logits, weights } = from;
  const order = new Uint32Array(weights.length);
  for (let i = 0; i < order.length; i++) order[i] = i;
  let begin = 0;
  let end = order.length;
  let held = 0;
  for (;;) {
    let low = Number.POSITIVE_INFINITY;
    let high = Number.NEGATIVE_INFINITY;
    for (let i = begin; i < end; i++) {
      const logit = logits[order[i]];
      if (logit < low) low = logit;
      if (logit > high) high = logit;
    }
    if (!(low < high)) break;
    const pivot = (low + high) / 2;
    let split = begin;
    let above = 0;
    for (let i = begin; i < end; i++) {
      const index = order[i];
      if (logits[index] < pivot) continue;
      above += weights[index];
      order[i] = order[split];
      order[split++] = index;
    }
    if (held + above >= mass) {
      end = split;
    } else {
      held += above;
      begin = split;
    }
  }
  const last = logits[order[begin]];
  return keep(from, (logit, weight) => {
    if (logit !== last) return logit > last;
    if (held >= mass) return false;
    held += weight;
    return true;
  });
}

/** One of the candidates with probability in proportion to its weight, by the running sum. */
function draw({ ids, weights }: Candidates, random: RandomSource): number {
  let sum = 0;
  for (const weight of weights) sum += weight;
  let rest = random() * sum;
  for (let i = 0; i < ids.length - 1; i++) {
    rest -= weights[i];
    if (rest < 0) return ids[i];
  }
  return ids[ids.length - 1];
}
