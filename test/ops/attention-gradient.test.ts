/** Gradients of attention: every row of the attention cases, all options alone and in pairs. */
import { attentionCases } from '../cases/attention.ts';
import { attentionWeightsCases } from '../cases/attention-weights.ts';
import type { OpCase } from '../cases/op-case.ts';
import { runGradients } from './run-gradients.ts';

/**
 * Without gradient: NaN that a query sees; a difference of two equal sums, whose rounding a scale of 1e4
 * multiplies.
 */
const options = {
  slack: 3,
  without: ({ name }: OpCase) => /NaN.* see|NaN query|huge logits decode/.test(name),
};
runGradients(attentionCases, options);
// With S values per key the long rows would take minutes in double precision.
const short = attentionWeightsCases.rows.filter(
  ({ shapes }) => Math.max(...shapes.query, ...shapes.key) < 100,
);
runGradients({ ...attentionWeightsCases, rows: short }, options);
