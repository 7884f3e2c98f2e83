/**
 * Chooses the next token from processed logits, also where one was proposed: as in speculative sampling, the
 * distribution is that of the logits whatever is proposed.
 *
 * Source: Leviathan et al. 2023, "Fast inference from transformers via speculative decoding", algorithm 1.
 */
import { logSumExp } from './logprobs.ts';
import { pickToken, type RandomSource } from './sampling.ts';

/** A token that may come next, checked by the model before it counts. */
export interface Proposal {
  readonly token: number;
  /**
   * For a token that was drawn: the processed logits it was drawn from. Without them the model draws as if
   * nothing were proposed, and the proposal is right if it is what was drawn.
   */
  readonly scores?: Float32Array;
}

/**
 * @param scores processed logits `[V]`
 * @param temperature 0 takes the likeliest token
 * @returns the token; the proposal is accepted if it is the same
 */
export function chooseToken(
  scores: Float32Array,
  temperature: number,
  random: RandomSource,
  proposal?: Proposal,
): number {
  if (temperature === 0 || proposal?.scores === undefined) return pickToken(scores, { temperature, random });
  const [pTotal, qTotal] = [logSumExp(scores), logSumExp(proposal.scores)];
  const p = (token: number) => Math.exp(scores[token] - pTotal);
  const q = (token: number) => Math.exp((proposal.scores as Float32Array)[token] - qTotal);
  if (random() * q(proposal.token) < p(proposal.token)) return proposal.token;
  // What the proposals give too seldom: max(0, p - q). Rounding leaves nothing only where p and q are equal.
  const rest = scores.map((_, token) => Math.log(Math.max(0, p(token) - q(token))));
  const empty = rest.every((value) => value === Number.NEGATIVE_INFINITY);
  return pickToken(empty ? scores : rest, { temperature, random });
}
