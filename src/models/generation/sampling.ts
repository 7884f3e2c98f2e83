/** From one row of processed logits `[V]` to a token. */
import { idsFrom, weightsOf } from './filters.ts';

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
  // e^-746 is 0 in f64, so lower logits cannot be drawn.
  const ids = idsFrom(logits, max - 746);
  const weights = weightsOf(logits, ids, max);
  let sum = 0;
  for (let i = 0; i < ids.length; i++) sum += weights[i];
  let rest = random() * sum;
  for (let i = 0; i < ids.length - 1; i++) {
    rest -= weights[i];
    if (rest < 0) return ids[i];
  }
  return ids[ids.length - 1];
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
