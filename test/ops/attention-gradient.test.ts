/** Gradients of attention: every row of the attention cases, all options alone and in pairs. */
import { attentionCases } from '../cases/attention.ts';
import { runGradients } from './run-gradients.ts';

/**
 * Without gradient: NaN that a query sees; a difference of two equal sums, whose rounding a scale of 1e4
 * multiplies.
 */
runGradients(attentionCases, {
  slack: 3,
  without: ({ name }) => /NaN.* see|NaN query|huge logits decode/.test(name),
});
