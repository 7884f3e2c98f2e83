/** Attention weights: rows of the attention cases, without values. Every option alone, NaN, edges, storage, tiles. */
import * as gqa from '../../src/index.ts';
import { attentionCases } from './attention.ts';
import { type OpCase, type OpCases, opCases } from './op-case.ts';

/** A row without values and what only the output has; undefined for rows of pairs of options. */
function withoutValue(row: OpCase): OpCase<gqa.AttentionWeightsOptions> | undefined {
  const { dropoutRate, returnLogSumExp, ...attrs } = row.attrs as gqa.AttentionOptions;
  const isPair = /, (?!decode)/.test(row.name) && !row.name.includes('NaN');
  if (dropoutRate || isPair || /^(H|Hv|S|T)\d+( |$)|^decode S4099 MQA/.test(row.name)) return undefined;
  const { value: _, ...shapes } = row.shapes;
  return { ...row, shapes, attrs };
}

export const attentionWeightsCases: OpCases = opCases<gqa.AttentionWeightsOptions>({
  op: 'dotProductAttentionWeights',
  run: ({ query, key, bias, mask, sinks }, options) =>
    gqa.dotProductAttentionWeights(query, key, { ...options, bias, mask, sinks }),
  rows: attentionCases.rows.flatMap((row) => withoutValue(row) ?? []),
});
