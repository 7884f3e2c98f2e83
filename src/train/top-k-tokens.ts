/** The likeliest tokens of next-token distributions, which distillation keeps of a teacher's predictions. */

/** The likeliest tokens of `count` distributions, and their logarithmic probabilities. */
export interface TopK {
  /** Distributions. */
  readonly count: number;
  /** Tokens kept of each, fewer than the vocabulary has. */
  readonly k: number;
  /** `[count, k]`: ids, distinct within a row. */
  readonly ids: Int32Array;
  /** `[count, k + 1]`: log-probabilities of these ids and, last, of all other tokens together. */
  readonly logProbs: Float32Array;
}

/** exp(-100) adds nothing to a sum of probabilities. */
const LEAST_LOG_PROBABILITY = -100;

/**
 * The top k tokens of each row of logits, in the order of their ids; of equal logits the first.
 * @param logits `[count, V]` @param k 1 … V - 1
 */
export function topKOf(logits: Float32Array, V: number, k: number): TopK {
  const count = logits.length / V;
  const ids = new Int32Array(count * k);
  const logProbs = new Float32Array(count * (k + 1));
  for (let row = 0; row < count; row++) {
    const values = logits.subarray(row * V, (row + 1) * V);
    const kept = ids.subarray(row * k, (row + 1) * k);
    largestIds(values, kept);
    const largest = kept.reduce((most, id) => Math.max(most, values[id]), Number.NEGATIVE_INFINITY);
    let [rest, next] = [0, 0];
    let total = 0;
    for (let id = 0; id < V; id++) {
      const weight = Math.exp(values[id] - largest);
      total += weight;
      if (id === kept[next]) next++;
      else rest += weight;
    }
    const own = logProbs.subarray(row * (k + 1), (row + 1) * (k + 1));
    for (let i = 0; i < k; i++) own[i] = values[kept[i]] - largest - Math.log(total);
    own[k] = Math.max(LEAST_LOG_PROBABILITY, Math.log(rest / total));
  }
  return { count, k, ids, logProbs };
}

/**
 * Fills `ids` with the ids of the largest values, ascending. It keeps a heap whose root is the least of them,
 * since the op `topK` takes time proportional to k.
 */
function largestIds(values: Float32Array, ids: Int32Array): void {
  const k = ids.length;
  /** Whether token a goes before token b: it is larger, or equal and earlier. */
  const isBefore = (a: number, b: number) => values[a] > values[b] || (values[a] === values[b] && a < b);
  const sink = (root: number) => {
    const id = ids[root];
    let at = root;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= k) break;
      if (child + 1 < k && isBefore(ids[child], ids[child + 1])) child++;
      if (isBefore(ids[child], id)) break;
      ids[at] = ids[child];
      at = child;
    }
    ids[at] = id;
  };
  for (let i = 0; i < k; i++) ids[i] = i;
  for (let i = (k >> 1) - 1; i >= 0; i--) sink(i);
  let least = values[ids[0]];
  for (let id = k; id < values.length; id++) {
    if (!(values[id] > least)) continue;
    ids[0] = id;
    sink(0);
    least = values[ids[0]];
  }
  ids.sort();
}
