/**
 * From logits to a token: pure functions of one row of logits `[V]`.
 *
 * Filters come in Hugging Face's order and with its meaning, each on what the one before it left: temperature, top-k,
 * top-p, min-p. A draw takes exactly one uniform number, so equal seeds give equal tokens.
 *
 * Source: transformers/generation/logits_process.py (TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper,
 * MinPLogitsWarper).
 */

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
 * @throws RangeError when no logit is a number above -Infinity.
 */
export function greedyToken(logits: Float32Array): number {
  let best = -1;
  let max = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < logits.length; i++) {
    if (logits[i] > max) {
      max = logits[i];
      best = i;
    }
  }
  if (best < 0) throw new RangeError(`sampling: expected a finite logit among ${logits.length}, got none`);
  return best;
}

/**
 * Draws a token from `softmax(logits / temperature)` after the filters.
 * @param logits `[V]`; read only
 * @param random called once, or not at all at temperature 0
 * @throws RangeError when no logit is a number above -Infinity. Options are checked by `checkSampling`, not here.
 */
export function sampleToken(logits: Float32Array, options: SamplingOptions, random: RandomSource): number {
  const likeliest = greedyToken(logits);
  const { temperature, topK = logits.length, topP = 1, minP = 0 } = options;
  const max = logits[likeliest];
  if (temperature === 0 || max === Number.POSITIVE_INFINITY) return likeliest;

  // Unnormalised probabilities: the likeliest token has 1.
  const weight = (id: number): number => Math.exp((logits[id] - max) / temperature);
  let ids: Uint32Array;
  if (topK < logits.length) {
    ids = idsFrom(logits, kthLargest(logits, topK));
    if (topP < 1) ids = nucleus(logits, ids, weight, topP * massOf(ids, weight));
  } else if (topP < 1) {
    ids = nucleusOfAll(logits, max, temperature, weight, topP);
  } else {
    ids = idsFrom(logits, Number.NEGATIVE_INFINITY);
  }
  if (minP > 0) ids = ids.filter((id) => weight(id) >= minP);
  return draw(ids, weight, random);
}

/** @throws RangeError naming the option that is out of range. */
export function checkSampling(op: string, options: SamplingOptions): void {
  const { temperature, topK, topP, minP } = options;
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

/** The k-th largest logit: a min-heap of the k largest so far, so one pass whose inner work is rare. */
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

/** Ids whose logit is at least `floor` and above -Infinity, ascending. */
function idsFrom(logits: Float32Array, floor: number): Uint32Array {
  const ids = new Uint32Array(logits.length);
  let count = 0;
  for (let i = 0; i < logits.length; i++) {
    if (logits[i] >= floor && logits[i] > Number.NEGATIVE_INFINITY) ids[count++] = i;
  }
  return ids.subarray(0, count);
}

function massOf(ids: Uint32Array, weight: (id: number) => number): number {
  let mass = 0;
  for (const id of ids) mass += weight(id);
  return mass;
}

/** The likeliest of `ids`, in falling order, until they hold `mass`; at least one. Equal logits: the lower id first. */
function nucleus(
  logits: Float32Array,
  ids: Uint32Array,
  weight: (id: number) => number,
  mass: number,
): Uint32Array {
  ids.sort((a, b) => logits[b] - logits[a] || a - b);
  let count = 0;
  for (let held = 0; count < ids.length && (count === 0 || held < mass); count++) held += weight(ids[count]);
  return ids.subarray(0, count);
}

/** As `nucleus` over the whole vocabulary, sorting only as much of its top as holds the mass: mostly a few hundred ids. */
function nucleusOfAll(
  logits: Float32Array,
  max: number,
  temperature: number,
  weight: (id: number) => number,
  topP: number,
): Uint32Array {
  let total = 0;
  for (let i = 0; i < logits.length; i++) total += weight(i);
  for (let span = 4; ; span *= 2) {
    const ids = idsFrom(logits, max - span * temperature);
    // Past 1000 the weights are 0: everything that counts is in.
    if (span > 1000 || massOf(ids, weight) >= topP * total) return nucleus(logits, ids, weight, topP * total);
  }
}

/** One of `ids` with probability in proportion to its weight, by walking the running sum. */
function draw(ids: Uint32Array, weight: (id: number) => number, random: RandomSource): number {
  const sums = new Float64Array(ids.length);
  let sum = 0;
  for (let i = 0; i < ids.length; i++) {
    sum += weight(ids[i]);
    sums[i] = sum;
  }
  const point = random() * sum;
  const at = sums.findIndex((held) => held > point);
  return ids[at < 0 ? ids.length - 1 : at];
}
