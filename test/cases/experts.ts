/** Mixtures of experts: the choice of experts, and projections by each row's experts. */
import type * as gqa from '../../src/index.ts';
import { type ChooseExpertsOptions, chooseExperts, expertLinears } from '../../src/ops/experts.ts';
import { integers, type OpCase, type OpCases, opCases } from './op-case.ts';

type Choice = Omit<ChooseExpertsOptions, 'bias'>;

function choice(rows: number[], experts: number, attrs: Choice, bias = false): OpCase<Choice> {
  const { count, groups } = attrs;
  const limited = groups ? ` in ${groups.kept} of ${groups.count} groups by ${groups.best}` : '';
  return {
    name: `${count} of ${experts} for [${rows}]${limited}${bias ? ' with bias' : ''}`,
    shapes: { scores: [...rows, experts], ...(bias && { bias: [experts] }) },
    attrs,
    tolerance: 1e-6,
  };
}

export const chooseExpertsCases: OpCases = opCases<Choice>({
  op: 'chooseExperts',
  run: ({ scores, bias }, options) => {
    const { values, ids } = chooseExperts(scores, { ...options, bias });
    return [values, ids];
  },
  rows: [
    ...[1, 2, 5, 7].map((count) => choice([3], 7, { count })),
    choice([2, 3], 11, { count: 4 }, true),
    choice([131], 67, { count: 6 }),
    choice([5], 12, { count: 3, groups: { count: 4, kept: 2, best: 1 } }),
    choice([5], 12, { count: 3, groups: { count: 3, kept: 2, best: 2 } }, true),
    choice([65], 256, { count: 8, groups: { count: 8, kept: 4, best: 2 } }, true),
    choice([1], 12, { count: 4, groups: { count: 3, kept: 1, best: 4 } }),
    choice([0], 5, { count: 2 }),
    { ...choice([2], 1, { count: 1 }), name: 'one expert' },
    { ...choice([3], 7, { count: 3 }), name: 'ties', draw: { scores: () => 0.5 } },
  ],
});

interface Projections {
  readonly experts: number;
  readonly parts: number;
  readonly transposed: boolean;
  readonly biased: boolean;
}

type WeightDType = 'f32' | 'f16' | 'bf16' | 'q8_0' | 'q4_0' | 'q4_1';

function projections(
  dtype: WeightDType,
  x: number[],
  ids: number[],
  [experts, inFeatures, ...outs]: number[],
  { transposed = false, biased = false } = {},
): OpCase<Projections> {
  const shapes: Record<string, number[]> = { x: [...x, inFeatures], ids };
  const dtypes: Record<string, gqa.DType> = { ids: 'i32' };
  outs.forEach((out, part) => {
    for (let e = 0; e < experts; e++) {
      shapes[`w${part}.${e}`] = transposed ? [inFeatures, out] : [out, inFeatures];
      dtypes[`w${part}.${e}`] = dtype;
      if (biased) shapes[`b${part}.${e}`] = [out];
    }
  });
  const form = `${transposed ? ', transposed' : ''}${biased ? ', biased' : ''}`;
  return {
    name: `${dtype} [${x}, ${inFeatures}] by [${ids}] of ${experts} to ${outs}${form}`,
    shapes,
    dtypes,
    draw: { ids: integers(0, experts) },
    attrs: { experts, parts: outs.length, transposed, biased },
    tolerance: dtype.startsWith('q') ? 2e-2 : 2e-6 * Math.sqrt(inFeatures),
  };
}

export const expertLinearCases: OpCases = opCases<Projections>({
  op: 'expertLinears',
  run: (inputs, { experts, parts, transposed, biased }) => {
    const list = (name: string) => Array.from({ length: experts }, (_, e) => inputs[`${name}.${e}`]);
    const weights = Array.from({ length: parts }, (_, part) => ({
      weights: list(`w${part}`),
      ...(biased && { biases: list(`b${part}`) }),
    }));
    return expertLinears(inputs.x, inputs.ids, weights, transposed);
  },
  rows: (['f32', 'f16', 'bf16', 'q8_0', 'q4_0', 'q4_1'] as const).flatMap((dtype) =>
    [false, true].flatMap((transposed) => {
      // Blocks lie along the last axis of the weight.
      const size = (n: number) => (dtype.startsWith('q') ? Math.ceil(n / 32) * 32 : n);
      const sizes = (experts: number, ins: number, ...outs: number[]) =>
        transposed ? [experts, ins, ...outs.map(size)] : [experts, size(ins), ...outs];
      return [
        projections(dtype, [1], [1, 2], sizes(3, 13, 7, 11), { transposed }),
        projections(dtype, [1], [1, 4], sizes(5, 37, 17), { transposed, biased: true }),
        projections(dtype, [2, 3], [2, 3, 2], sizes(5, 7, 3, 5), { transposed, biased: true }),
        projections(dtype, [2, 3, 2], [2, 3, 2], sizes(5, 7, 3), { transposed }),
        projections(dtype, [47], [47, 3], sizes(5, 67, 29, 31), { transposed }),
        projections(dtype, [47, 3], [47, 3], sizes(4, 19, 277), { transposed, biased: true }),
        projections(dtype, [0], [0, 2], sizes(3, 5, 7), { transposed }),
      ];
    }),
  ),
});
