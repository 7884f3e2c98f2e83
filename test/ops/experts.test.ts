/** The ops of mixtures of experts against the reference: outputs, gradients, and the weights they read. */
import { describe, expect, test } from 'vitest';
import { type Tensor, tensor } from '../../src/index.ts';
import { type ChooseExpertsOptions, chooseExperts, expertLinears } from '../../src/ops/experts.ts';
import { chooseExpertsCases, expertLinearCases } from '../cases/experts.ts';
import { runCases } from './run-cases.ts';
import { runGradients } from './run-gradients.ts';

runCases(chooseExpertsCases);
runCases(expertLinearCases);
// Indices have no gradient; a step may change which of equal scores is chosen.
const values = ({ scores, bias }: Readonly<Record<string, Tensor>>, options: unknown) =>
  chooseExperts(scores, { ...(options as ChooseExpertsOptions), bias }).values;
runGradients(
  { ...chooseExpertsCases, run: values },
  { constants: ['bias'], without: ({ name }) => name === 'ties' },
);
runGradients(expertLinearCases);

describe('chooseExperts', () => {
  const scores = tensor([[0.1, 0.9, 0.5, 0.5, 0.2, 0.3]]);

  test('gives the best first, the lower index on a tie', () => {
    expect(chooseExperts(scores, { count: 3 }).ids.toArray()).toEqual([[1, 2, 3]]);
  });

  test('stays inside the best groups', () => {
    const groups = { count: 3, kept: 1, best: 2 };
    expect(chooseExperts(scores, { count: 2, groups }).ids.toArray()).toEqual([[1, 0]]);
  });

  test('counts a bias for the choice only', () => {
    const { ids, values } = chooseExperts(scores, { count: 1, bias: tensor([0, 0, 0, 0, 1, 0]) });
    expect(ids.toArray()).toEqual([[4]]);
    expect(values.toArray()).toEqual([[Math.fround(0.2)]]);
  });

  test('says which number does not fit', () => {
    expect(() => chooseExperts(scores, { count: 7 })).toThrow(
      'chooseExperts: expected 1 to 6 experts per row, got 7',
    );
    expect(() => chooseExperts(scores, { count: 3, groups: { count: 3, kept: 1, best: 1 } })).toThrow(
      'expected 1 to 2 experts per row, got 3',
    );
    expect(() => chooseExperts(scores, { count: 1, groups: { count: 4, kept: 1, best: 1 } })).toThrow(
      'groups to divide E=6',
    );
  });
});

describe('expertLinears', () => {
  test('reads no weight of an expert that is not chosen', () => {
    const good = tensor([
      [1, 2],
      [3, 4],
    ]);
    const poison = tensor([
      [Number.NaN, Number.NaN],
      [Number.NaN, Number.NaN],
    ]);
    for (const transposed of [false, true]) {
      const [out] = expertLinears(
        tensor([[1, 0]]),
        tensor([[1, 3]], { dtype: 'i32' }),
        [{ weights: [poison, good, poison, good] }],
        transposed,
      );
      const row = transposed ? [1, 2] : [1, 3];
      expect(out.toArray()).toEqual([[row, row]]);
    }
  });

  test('names both shapes when they do not fit', () => {
    const weights = [tensor([[1, 2, 3]])];
    const ids = tensor([[0]], { dtype: 'i32' });
    expect(() => expertLinears(tensor([[1, 2]]), ids, [{ weights }])).toThrow(
      'expertLinears: expected a weight [1, 2], got [1, 3]',
    );
    expect(() =>
      expertLinears(
        tensor([
          [1, 2, 3],
          [1, 2, 3],
        ]),
        ids,
        [{ weights }],
      ),
    ).toThrow('expected x of rows');
  });
});
