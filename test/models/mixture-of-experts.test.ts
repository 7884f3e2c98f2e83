/**
 * Mixture-of-experts layers of transformers (test/golden/experts): outputs and gradients, on every backend.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Backend } from '../../src/backend/backend.ts';
import { grad, linear, mul, sum, type Tensor, valueAndGrad } from '../../src/index.ts';
import type { ExpertsConfig } from '../../src/models/experts-config.ts';
import { mixtureOfExperts } from '../../src/models/mixture-of-experts.ts';
import type { MixtureOf } from '../../src/models/mixture-weights.ts';
import { createModel } from '../../src/models/trainable-model.ts';
import { add } from '../../src/ops/binary.ts';
import { gatedActivation } from '../../src/ops/gated.ts';
import { linears } from '../../src/ops/linear.ts';
import { allocate } from '../../src/ops/operands.ts';
import { rmsNorm } from '../../src/ops/rms-norm.ts';
import { adamw, causalLmLoss, Optimizer } from '../../src/train/index.ts';
import { backends } from '../ops/backends.ts';
import { expectClose, GOLDEN, Golden } from './golden.ts';

interface Case
  extends Pick<ExpertsConfig, 'numExperts' | 'expertsPerToken' | 'intermediateSize' | 'routing'> {
  readonly name: string;
  readonly activation: ExpertsConfig['activation'];
}

const { B, T, D, cases } = JSON.parse(readFileSync(join(GOLDEN, 'experts/golden.json'), 'utf8')) as {
  B: number;
  T: number;
  D: number;
  cases: readonly Case[];
};
const TOLERANCE = 2e-6;

let golden: Golden;
beforeAll(async () => {
  golden = await Golden.open('experts');
});

function put(backend: Backend, values: Float32Array, shape: readonly number[]): Tensor {
  const out = allocate(backend, 'f32', shape);
  backend.write(out.storage, new Uint8Array(values.slice().buffer));
  return out;
}

/**
 * The layer with one tensor per expert, in transformers' order: gate's rows, then up's (gpt-oss: in turns, as
 * columns).
 */
function layerOf(
  backend: Backend,
  { name, numExperts: E, intermediateSize: I, activation }: Case,
): MixtureOf<Tensor> {
  const transposed = activation.type === 'clamped';
  const part = (key: string, shape: readonly number[], e = 0, count = 1, index = 0) => {
    const size = shape.reduce((product, dim) => product * dim, 1);
    const first = (e * count + index) * size;
    return put(backend, golden.floats(`${name}/${key}`).slice(first, first + size), shape);
  };
  const each = (make: (e: number) => { weight: Tensor; bias?: Tensor }) =>
    Array.from({ length: E }, (_, e) => make(e));
  const router = { weight: part('router', [E, D]) };
  if (transposed) {
    return {
      router: { ...router, bias: part('routerBias', [E]) },
      joint: 'alternating',
      gateUp: [
        each((e) => ({ weight: part('gateUp', [D, 2 * I], e), bias: part('gateUpBias', [2 * I], e) })),
      ],
      down: each((e) => ({ weight: part('down', [I, D], e), bias: part('downBias', [D], e) })),
      transposed,
    };
  }
  const shared = 2 * I;
  return {
    router,
    ...(name.startsWith('deepseek-v3') && { choiceBias: part('choiceBias', [E]) }),
    ...(name === 'gemma4' && {
      routerNorm: part('routerNorm', [D]),
      expertScale: part('expertScale', [E]),
    }),
    gateUp: [0, 1].map((half) => each((e) => ({ weight: part('gateUp', [I, D], e, 2, half) }))),
    down: each((e) => ({ weight: part('down', [D, I], e) })),
    transposed,
    ...(name.startsWith('deepseek') && {
      shared: {
        gateUp: [{ weight: part('shared/gate', [shared, D]) }, { weight: part('shared/up', [shared, D]) }],
        down: { weight: part('shared/down', [D, shared]) },
      },
    }),
  };
}

function run(spec: Case, layer: MixtureOf<Tensor>, x: Tensor): Tensor {
  const clamped = spec.activation.type === 'clamped';
  const config = { ...spec, layers: [true], routerBias: clamped, biases: clamped };
  const { routing } = spec;
  const routed = routing.norm && mul(rmsNorm(x, layer.routerNorm, { eps: 1e-6 }), routing.norm.scale);
  const mixed = mixtureOfExperts(config, layer, x, routed);
  if (!layer.shared) return mixed;
  const [gate, up] = linears(x, layer.shared.gateUp);
  return add(mixed, linear(gatedActivation(gate, up), layer.shared.down.weight));
}

describe.each(backends)('$name', (backend) => {
  test.each(cases)('$name gives the output', (spec) => {
    const x = put(backend, golden.floats(`${spec.name}/x`), [B, T, D]);
    const y = run(spec, layerOf(backend, spec), x);
    expect(y.shape).toEqual([B, T, D]);
    expectClose(y.dataSync(), golden.floats(`${spec.name}/y`), TOLERANCE);
    // One token at a time: the way of a decode step.
    const one = put(backend, golden.floats(`${spec.name}/x`).slice(0, D), [1, 1, D]);
    const first = run(spec, layerOf(backend, spec), one);
    expectClose(first.dataSync(), golden.floats(`${spec.name}/y`).slice(0, D), TOLERANCE);
  });

  test.each(cases)('$name gives the gradients', (spec) => {
    const { name } = spec;
    const layer = layerOf(backend, spec);
    const x = put(backend, golden.floats(`${name}/x`), [B, T, D]);
    const dY = put(backend, golden.floats(`${name}/dY`), [B, T, D]);
    const { gateUp, down, router, routerNorm, expertScale } = layer;
    const leaves = { x, router, gateUp, down, ...(routerNorm && expertScale && { routerNorm, expertScale }) };
    const found = grad((at: typeof leaves) => sum(mul(run(spec, { ...layer, ...at }, at.x), dY)))(leaves);
    const close = (got: Tensor | undefined, key: string) =>
      expectClose((got as Tensor).dataSync(), golden.floats(`${name}/d/${key}`), 10 * TOLERANCE, key);
    const joined = (list: readonly (Tensor | undefined)[]) =>
      list.flatMap((one) => [...(one as Tensor).dataSync()]);
    close(found.x, 'x');
    close(found.router.weight, 'router');
    if (routerNorm) close(found.routerNorm, 'routerNorm');
    if (expertScale) close(found.expertScale, 'expertScale');
    const halves = found.gateUp;
    const stacked = Array.from({ length: spec.numExperts }, (_, e) =>
      halves.map((half) => half[e].weight),
    ).flat();
    expectClose(joined(stacked), golden.floats(`${name}/d/gateUp`), 10 * TOLERANCE, 'gateUp');
    expectClose(
      joined(found.down.map(({ weight }) => weight)),
      golden.floats(`${name}/d/down`),
      10 * TOLERANCE,
      'down',
    );
    if (!router.bias) return;
    close(found.router.bias, 'routerBias');
    expectClose(
      joined(halves[0].map(({ bias }) => bias)),
      golden.floats(`${name}/d/gateUpBias`),
      10 * TOLERANCE,
    );
    expectClose(
      joined(found.down.map(({ bias }) => bias)),
      golden.floats(`${name}/d/downBias`),
      10 * TOLERANCE,
    );
  });
});

test.each(backends.filter(({ name }) => name !== 'reference'))(
  'a small gpt-oss trains on $name',
  ({ name }) => {
    const config = JSON.parse(readFileSync(join(GOLDEN, 'tiny-gpt_oss/plain/config.json'), 'utf8'));
    const model = createModel(config, { seed: 1, backend: name });
    const optimizer = new Optimizer(model, adamw({ learningRate: 1e-2 }));
    const tokens = [
      [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5],
      [2, 7, 1, 8, 2, 8, 1, 8, 2, 8, 4],
    ];
    const losses: number[] = [];
    for (let step = 0; step < 12; step++) {
      const [loss, gradients] = valueAndGrad((m: typeof model) => causalLmLoss(m, tokens))(model);
      losses.push(loss.dataSync()[0]);
      optimizer.update(model, gradients);
    }
    expect(losses[0]).toBeCloseTo(Math.log(61), 0);
    expect(losses[11]).toBeLessThan(losses[0] / 2);
    model.dispose();
  },
);
