/** From one row of processed logits `[V]` to a token. */

/** A source of uniform numbers in [0, 1). */
export type RandomSource = () => number;

/**
 * The likeliest token at temperature 0, otherwise one drawn from `softmax(logits)`.
 * @param logits `[V]` after `logitsProcessors`, which have divided by the temperature; read only
 * @param options `random` is called once, or not at all at temperature 0
 * @throws as `greedyToken`
 */
export function pickToken(
  logits: Float32Array,
  { temperature, random }: { readonly temperature: number; readonly random: RandomSource },
): number {
  const likeliest = greedyToken(logits);
  const max = logits[likeliest];
  if (temperature === 0 || max === Number.POSITIVE_INFINITY) return likeliest;
  const weights = new Float64Array(logits.length);
  let sum = 0;
  for (let id = 0; id < logits.length; id++) {
    // e^-746 is 0 in f64.
    if (logits[id] - max < -746) continue;
    weights[id] = Math.exp(logits[id] - max);
    sum += weights[id];
  }
  let rest = random() * sum;
  let drawn = likeliest;
  for (let id = 0; id < weights.length; id++) {
    if (weights[id] === 0) continue;
    drawn = id;
    rest -= weights[id];
    if (rest < 0) break;
  }
  return drawn;
}

/**
 * Index of the largest logit; the lowest index wins a tie.
 * @throws RangeError when a logit is NaN, or none is above -Infinity: the model or its weights are broken, or
 * processors have masked every token.
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
