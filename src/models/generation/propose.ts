/**
 * Speculation: tokens that may come next, which the model then checks in one pass. Right ones save passes;
 * wrong ones change nothing.
 *
 * Sources: Saxena 2023, "Prompt lookup decoding"; Leviathan et al. 2023, "Fast inference from transformers
 * via speculative decoding".
 */
import type { Model } from '../model.ts';
import type { Proposal } from './choose-token.ts';
import { forwardRows, type PrefillOptions, prefill } from './forward-rows.ts';
import type { GenerationRequest } from './request.ts';
import type { Sequence } from './sequence.ts';

/** Longest run of last tokens that prompt lookup searches for. */
const LONGEST_MATCH = 3;
/** Tokens that a draft model proposes per pass. */
const DRAFT_TOKENS = 4;

/** Sets the proposals of each sequence, as the options ask. */
export async function propose(request: GenerationRequest, sequences: readonly Sequence[]): Promise<void> {
  const { promptLookup, draftModel, temperature } = request;
  if (promptLookup !== undefined) {
    for (const sequence of sequences) {
      const most = sequence.proposalLimit(promptLookup);
      sequence.proposals = lookUp(sequence.history, most).map((token) => ({ token }));
    }
  }
  if (draftModel) await draft(draftModel, sequences, temperature > 0, request);
}

/**
 * The tokens, at most `most`, that followed the latest earlier occurrence of the last three tokens, else of
 * the last two, else of the last one.
 */
export function lookUp(tokens: readonly number[], most: number): number[] {
  if (most < 1) return [];
  for (let size = Math.min(LONGEST_MATCH, tokens.length - 1); size >= 1; size--) {
    const last = tokens.length - size;
    for (let at = last - 1; at >= 0; at--) {
      let same = 0;
      while (same < size && tokens[at + same] === tokens[last + same]) same++;
      if (same === size) return tokens.slice(at + size, at + size + most);
    }
  }
  return [];
}

/** Draws proposals from the draft model, one token of all rows per pass. */
async function draft(
  model: Model,
  sequences: readonly Sequence[],
  isDrawn: boolean,
  options: PrefillOptions,
): Promise<void> {
  const rows = sequences.flatMap((sequence) => {
    const { draftCache: cache, history } = sequence;
    if (!cache) return [];
    // The last proposal is not fed to the draft model.
    const limit = Math.min(sequence.proposalLimit(DRAFT_TOKENS), cache.maxLength - history.length + 1);
    const tokens = history.slice(cache.lengths[0]);
    return limit > 0 ? [{ sequence, cache, limit, tokens, proposals: [] as Proposal[] }] : [];
  });
  for (const row of rows) {
    const prompt = row.tokens.slice(0, -1);
    if (row.cache.lengths[0] === 0 && prompt.length > 0) {
      await prefill(model, { cache: row.cache, tokens: prompt }, options);
      row.tokens = row.tokens.slice(-1);
    }
    row.cache.hold?.(0, row.cache.lengths[0]);
  }
  for (;;) {
    const open = rows.filter(({ proposals, limit }) => proposals.length < limit);
    if (open.length === 0) break;
    const logits = await forwardRows(model, open, 'last');
    open.forEach((row, i) => {
      const proposed = row.proposals.map(({ token }) => token);
      const scores = row.sequence.processed(logits[i][0], proposed);
      const token = row.sequence.choose(scores);
      row.proposals.push(isDrawn ? { token, scores } : { token });
      row.tokens = [token];
    });
  }
  for (const { sequence, proposals } of rows) sequence.proposals = proposals;
}
