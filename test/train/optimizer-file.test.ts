/** The state of an optimiser in a file: a loop that stops and goes on in another process gives the same bits. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openCheckpoint, writeSafetensors } from '../../src/checkpoint/index.ts';
import { setBackend, valueAndGrad } from '../../src/index.ts';
import { saveModel } from '../../src/models/index.ts';
import {
  adamw,
  causalLmLoss,
  chain,
  clipByGlobalNorm,
  createModel,
  drawBatch,
  llamaConfig,
  loadOptimizer,
  loadTrainableModel,
  multiSteps,
  Optimizer,
  saveOptimizer,
  sgd,
  type TrainableModel,
  type Transformation,
  warmupCosineDecaySchedule,
} from '../../src/train/index.ts';

let folder: string;
beforeAll(async () => {
  await setBackend('native').catch(() => setBackend('wasm'));
  folder = mkdtempSync(join(tmpdir(), 'gqa-optimizer-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const config = llamaConfig({ vocabSize: 11, hiddenSize: 16, numLayers: 2, numHeads: 2, numKeyValueHeads: 1 });
const tokens = Int32Array.from({ length: 500 }, (_, i) => (i * i + (i >> 3)) % 11);
const schedule = warmupCosineDecaySchedule({ initValue: 0, peakValue: 1e-2, warmupSteps: 5, decaySteps: 20 });
const transformation = (): Transformation =>
  chain(clipByGlobalNorm(1), multiSteps(adamw({ learningRate: schedule, weightDecay: 0.1 }), 2));

/** A training loop as a program would have it. @returns the losses */
function train(model: TrainableModel, optimizer: Optimizer, from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => {
    const draw = { batchSize: 2, blockLength: 8, seed: 3, stream: 'train', index: from + i } as const;
    const lossOf = (one: TrainableModel) => causalLmLoss(one, drawBatch(tokens, draw));
    const [loss, gradients] = valueAndGrad(lossOf)(model);
    optimizer.update(model, gradients);
    return loss.dataSync()[0];
  });
}

const bitsOf = (model: TrainableModel) =>
  [...model.parameters()].map(([name, { value }]) => [name, [...new Uint32Array(value.dataSync().buffer)]]);

/** The second half in a fresh process, on the built package: it loads, takes the steps and saves. */
const SECOND_HALF = `
  import { valueAndGrad, setBackend } from 'gqa';
  import { saveModel } from 'gqa/models';
  import { adamw, causalLmLoss, chain, clipByGlobalNorm, drawBatch, loadOptimizer, loadTrainableModel, multiSteps,
    Optimizer, warmupCosineDecaySchedule } from 'gqa/train';
  await setBackend('native').catch(() => setBackend('wasm'));
  const tokens = Int32Array.from({ length: 500 }, (_, i) => (i * i + (i >> 3)) % 11);
  const model = await loadTrainableModel('half');
  const schedule = warmupCosineDecaySchedule({ initValue: 0, peakValue: 1e-2, warmupSteps: 5, decaySteps: 20 });
  const step = chain(clipByGlobalNorm(1), multiSteps(adamw({ learningRate: schedule, weightDecay: 0.1 }), 2));
  const optimizer = new Optimizer(model, step);
  await loadOptimizer('half.safetensors', optimizer);
  const losses = [];
  for (let index = 11; index < 20; index++) {
    const batch = drawBatch(tokens, { batchSize: 2, blockLength: 8, seed: 3, stream: 'train', index });
    const [loss, gradients] = valueAndGrad((one) => causalLmLoss(one, batch))(model);
    optimizer.update(model, gradients);
    losses.push(loss.dataSync()[0]);
  }
  await saveModel('whole', model);
  console.log(JSON.stringify(losses));`;

test('20 steps are 11 steps, a file, and 9 steps in another process', async () => {
  const whole = createModel(config, { seed: 1 });
  const losses = train(whole, new Optimizer(whole, transformation()), 0, 20);

  const half = createModel(config, { seed: 1 });
  const optimizer = new Optimizer(half, transformation());
  const first = train(half, optimizer, 0, 11); // between two steps of multiSteps
  await saveModel(join(folder, 'half'), half);
  await saveOptimizer(join(folder, 'half.safetensors'), optimizer);
  const root = fileURLToPath(new URL('../../', import.meta.url));
  const program = SECOND_HALF.replace(/'(half|half\.safetensors|whole)'/g, (_, name) =>
    JSON.stringify(join(folder, name)),
  );
  const run = { cwd: root, encoding: 'utf8' } as const;
  const output = execFileSync(process.execPath, ['--input-type=module', '--eval', program], run);
  expect([...first, ...JSON.parse(output)]).toEqual(losses);
  expect(bitsOf(await loadTrainableModel(join(folder, 'whole')))).toEqual(bitsOf(whole));
});

test('the file holds moments, sums and counts', async () => {
  const model = createModel(config);
  const optimizer = new Optimizer(model, transformation());
  train(model, optimizer, 0, 3);
  const path = join(folder, 'state.safetensors');
  await saveOptimizer(path, optimizer);
  await using checkpoint = await openCheckpoint(path);
  expect(checkpoint.tensors.size).toBe(3 * model.parameters().size);
  expect(JSON.parse(checkpoint.metadata.counters)).toEqual(optimizer.counters);
  expect(Object.values(optimizer.counters)).toContain(1);
});

test('an optimiser without tensors keeps its count', async () => {
  const model = createModel(config);
  const optimizer = new Optimizer(model, sgd({ learningRate: 0.1 }));
  train(model, optimizer, 0, 2);
  const path = join(folder, 'sgd.safetensors');
  await saveOptimizer(path, optimizer);
  const other = new Optimizer(model, sgd({ learningRate: 0.1 }));
  await loadOptimizer(path, other);
  expect(other.counters).toEqual({ count: 2 });
});

test('what does not fit is refused, and changes nothing', async () => {
  const model = createModel(config);
  const optimizer = new Optimizer(model, adamw({ learningRate: 1e-2 }));
  train(model, optimizer, 0, 2);
  const path = join(folder, 'adamw.safetensors');
  await saveOptimizer(path, optimizer);
  const refuses = async (state: string, target: Optimizer, error: RegExp) => {
    const before = Object.values(target.tensors).map((tensor) => [...tensor.dataSync()]);
    await expect(loadOptimizer(state, target)).rejects.toThrow(error);
    expect(Object.values(target.tensors).map((tensor) => [...tensor.dataSync()])).toEqual(before);
    expect(target.counters).toEqual({ count: 0 });
  };
  const wide = createModel({ ...config, intermediate_size: 96 });
  await refuses(
    path,
    new Optimizer(wide, adamw({ learningRate: 1 })),
    /adamw\.safetensors: m\.model\.layers\.0\.mlp\.gate_proj\.weight: expected shape \[96, 16\], got \[64, 16\]/,
  );
  const momentum = () => new Optimizer(model, sgd({ learningRate: 1, momentum: 0.9 }));
  await refuses(path, momentum(), /expected the \d+ tensors of this optimiser, got m\./);
  const foreign = join(folder, 'foreign.safetensors');
  await writeSafetensors(foreign, optimizer.tensors);
  const fresh = () => new Optimizer(model, adamw({ learningRate: 1 }));
  await refuses(foreign, fresh(), /counters\.count: expected an integer of at least 0, got nothing/);
  const wrong = { ...optimizer.tensors };
  delete (wrong as Record<string, unknown>)[Object.keys(wrong)[0]];
  await writeSafetensors(foreign, wrong, { metadata: { format: 'pt', counters: '{"count":2}' } });
  await refuses(foreign, fresh(), /got no such tensor/);
  await expect(saveOptimizer(optimizer as never, path as never)).rejects.toThrow(TypeError);
  await expect(loadOptimizer(path, model as never)).rejects.toThrow(
    'loadOptimizer: expected an optimiser second',
  );
});
