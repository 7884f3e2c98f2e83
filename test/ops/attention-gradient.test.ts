/** Gradients of attention: every row of the attention cases, all options alone and in pairs. */
import { attentionCases } from '../cases/attention.ts';
import { runGradients } from './run-gradients.ts';

/**
 * Without gradient: NaN that a query sees. Huge logits: their log-sum-exp of f32 is coarser than the weights (as in every
 * flash-style backward).
 */
runGradients(attentionCases, {
  slack: 3,
  without: ({ name }) => /NaN.* see|NaN query|huge logits/.test(name),
});
