/** A failed step changes nothing, and the next step is the same as without it. */

import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { convert } from '../../src/backend/calls/copy.ts';
import { getBackend } from '../../src/backend/registry.ts';
import { add, mul, setBackend, sqrt, type Tensor, tensor } from '../../src/index.ts';
import type { ForwardOptions, Tokens } from '../../src/models/index.ts';
import { Param } from '../../src/nn/index.ts';
import {
  adamw,
  chain,
  clipByGlobalNorm,
  createModel,
  DivergedError,
  llamaConfig,
  multiSteps,
  Optimizer,
  sgd,
  splitTokens,
  type TrainableModel,
  Trainer,
} from '../../src/train/index.ts';
import { backends } from '../ops/backends.ts';

const SIZES = { vocabSize: 13, hiddenSize: 16, numLayers: 1, numHeads: 2, numKeyValueHeads: 1 };
const BLOCK = 8;

beforeAll(() => setBackend(backends.some(({ name }) => name === 'native') ? 'native' : 'wasm'));

function makeTrainer(accumulate: number): Trainer {
  const tokens = Int32Array.from({ length: 900 }, (_, i) => (i * i + (i >> 3)) % 13);
  const model = createModel(llamaConfig({ ...SIZES, maxPositionEmbeddings: BLOCK }), { seed: 3 });
  return new Trainer(model, splitTokens(tokens, BLOCK, 0.1), {
    ...{ batchSize: 2, blockLength: BLOCK, steps: 20, learningRate: 1e-2, accumulate },
  });
}

/** Parameters, optimiser and place of a run. */
function stateOf({ model, optimizer, step }: Trainer) {
  const values = (tensors: Iterable<readonly [string, Tensor]>) =>
    [...tensors].map(([name, x]) => [name, Array.from(x.dataSync())]);
  return {
    parameters: values([...model.parameters()].map(([path, { value }]) => [path, value] as const)),
    moments: values(Object.entries(optimizer.tensors)),
    counters: optimizer.counters,
    step,
  };
}

const failures: readonly [string, (logits: Tensor) => Tensor, RegExp][] = [
  ['a loss that is NaN', (logits) => mul(logits, Number.NaN), /^the loss is NaN at step 3/],
  // The value is that of the logits, and the root's gradient at 0 times 0 is NaN.
  [
    'gradients that are NaN though the loss is finite',
    (logits) => add(logits, sqrt(mul(logits, 0))),
    /^the norm of the gradients is NaN at step 3/,
  ],
  [
    'an exception',
    () => {
      throw new Error('interrupted');
    },
    /^interrupted/,
  ],
];

describe.each(failures)('%s', (_, spoil, message) => {
  test.each([
    [1, 0],
    [3, 0],
    [3, 1],
    [3, 2],
  ])('of %i batches in number %i', (accumulate, at) => {
    const undisturbed = makeTrainer(accumulate);
    const want = [1, 2, 3, 4, 5].map(() => undisturbed.advance());
    const trainer = makeTrainer(accumulate);
    const got = [trainer.advance(), trainer.advance()];
    const before = stateOf(trainer);
    const model = trainer.model as TrainableModel;
    const forward = model.forward.bind(model);
    let calls = 0;
    const spoiled = (tokens: Tokens, options?: ForwardOptions) =>
      calls++ === at ? spoil(forward(tokens, options)) : forward(tokens, options);
    Object.assign(model, { forward: spoiled });
    expect(() => trainer.advance()).toThrow(message);
    expect(calls).toBe(at + (message.source.includes('norm') ? accumulate - at : 1));
    Object.assign(model, { forward });
    expect(stateOf(trainer)).toEqual(before);
    got.push(trainer.advance(), trainer.advance(), trainer.advance());
    expect(got).toEqual(want);
    expect(stateOf(trainer)).toEqual(stateOf(undisturbed));
    undisturbed.model.dispose();
    model.dispose();
  });
});

test('advanceAsync gives the bits of advance, with turns of the event loop after each batch', async () => {
  const plain = makeTrainer(3);
  const want = [1, 2, 3].map(() => plain.advance());
  const trainer = makeTrainer(3);
  let turns = 0;
  const timer = () => {
    turns++;
    handle = setImmediate(timer);
  };
  let handle = setImmediate(timer);
  const got = [await trainer.advanceAsync(), await trainer.advanceAsync(), await trainer.advanceAsync({})];
  clearImmediate(handle);
  expect(turns).toBeGreaterThanOrEqual(9);
  expect(got).toEqual(want);
  expect(stateOf(trainer)).toEqual(stateOf(plain));
  plain.model.dispose();
  trainer.model.dispose();
});

test.each([1, 3])('an abort ends a step of %i batches, and changes nothing', async (accumulate) => {
  const undisturbed = makeTrainer(accumulate);
  const want = [1, 2].map(() => undisturbed.advance());
  const trainer = makeTrainer(accumulate);
  const got = [trainer.advance()];
  const before = stateOf(trainer);
  const reason = new Error('enough');
  await expect(trainer.advanceAsync({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  const stop = new AbortController();
  setImmediate(() => stop.abort(reason));
  await expect(trainer.advanceAsync({ signal: stop.signal })).rejects.toBe(reason);
  expect(stateOf(trainer)).toEqual(before);
  const running = trainer.advanceAsync({ signal: new AbortController().signal });
  await expect(trainer.advanceAsync()).rejects.toThrow(/expected the step before to be done/);
  expect(() => trainer.advance()).toThrow(/expected the step before to be done/);
  got.push(await running);
  expect(got).toEqual(want);
  expect(stateOf(trainer)).toEqual(stateOf(undisturbed));
  undisturbed.model.dispose();
  trainer.model.dispose();
});

test('weights that are no numbers are told before the first step, and not laid to the learning rate', () => {
  const trainer = makeTrainer(2);
  for (const [, { value }] of trainer.model.parameters()) {
    getBackend().run(convert, { out: value, x: mul(value, Number.NaN), count: value.size });
  }
  expect(() => trainer.advance()).toThrow(DivergedError);
  expect(() => trainer.advance()).toThrow(
    'the loss is NaN at step 1; before any was taken: expected weights that give a finite one',
  );
  trainer.model.dispose();
});

describe('an optimiser whose rate is refused at a step', () => {
  let parameter: Param;
  const model = { parameters: () => [['w', parameter]] as const };
  afterEach(() => parameter.value.dispose());

  test.each([
    ['multiSteps', (rate: () => number) => multiSteps(adamw({ learningRate: rate }), 2)],
    ['a chain', (rate: () => number) => chain(clipByGlobalNorm(1), adamw({ learningRate: rate }))],
    [
      'multiSteps of a chain',
      (rate: () => number) => multiSteps(chain(clipByGlobalNorm(1), sgd({ learningRate: rate })), 2),
    ],
  ] as const)('%s', (_, make) => {
    parameter = new Param(tensor([1, -2, 3]));
    let rate = 0.1;
    const optimizer = new Optimizer(
      model,
      make(() => rate),
    );
    const update = (...g: number[]) => optimizer.update(model, { w: tensor(g) });
    update(1, 2, 3);
    const read = () => [
      Array.from(parameter.value.dataSync()),
      Object.entries(optimizer.tensors).map(([name, x]) => [name, Array.from(x.dataSync())]),
      optimizer.counters,
    ];
    const before = read();
    rate = Number.NaN;
    expect(() => update(4, 5, 6)).toThrow(/a learning rate that is not negative, got NaN at step/);
    expect(read()).toEqual(before);
    rate = 0.1;
    update(4, 5, 6);
    expect(read()).not.toEqual(before);
  });
});
