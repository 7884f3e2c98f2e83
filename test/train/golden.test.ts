/** Losses, gradients and ten AdamW steps of transformers' and PyTorch's models (tools/golden/train.py). */
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { type BackendName, setBackend, type Tensor, tensor, valueAndGrad } from '../../src/index.ts';
import {
  adamw,
  causalLmLoss,
  chain,
  clipByGlobalNorm,
  type LanguageModel,
  loadTrainableModel,
  Optimizer,
} from '../../src/train/index.ts';
import type { CaseInput } from '../cases/inputs.ts';
import { backends } from '../ops/backends.ts';
import { type GoldenFile, readGolden } from '../ops/golden.ts';
import { difference } from '../ops/run-cases.ts';
import { smallGpt } from './small-gpt.ts';

interface Case {
  readonly checkpoint: string | null;
  readonly losses: readonly number[];
}

/** The weights of Conv1D of GPT-2 lie `[In, Out]`, and q, k and v in one. */
function storedGradient(
  golden: GoldenFile<Case>,
  path: string,
  shape: readonly number[],
): ArrayLike<number> | undefined {
  const [, name, first] = /^([^[]+)(?:\[(\d+):\d+\])?$/.exec(path) as RegExpExecArray;
  const input = [`gradient/${name}`, `gradient/transformer.${name}`]
    .map((key) => golden.input(key))
    .find((found) => found !== undefined);
  if (!input) return undefined;
  const from = Number(first ?? 0);
  if (!/c_(attn|proj|fc)\.weight$/.test(name)) {
    const row = shape.slice(1).reduce((product, dim) => product * dim, 1);
    return Array.from(input.values).slice(from * row, (from + shape[0]) * row);
  }
  const [outs, ins] = shape;
  const columns = input.shape[1];
  return Array.from({ length: outs * ins }, (_, i) => {
    const [out, at] = [Math.floor(i / ins), i % ins];
    return input.values[at * columns + from + out];
  });
}

const names = [
  ...['tiny-llama-mha', 'tiny-llama-gqa-tied', 'tiny-llama-mqa'],
  ...['tiny-qwen3-plain', 'tiny-gpt2-bare', 'small-gpt'],
];

for (const backend of backends) {
  describe(`training on ${backend.name}`, () => {
    for (const name of names) {
      test(name, async () => {
        await setBackend(backend.name as BackendName);
        const golden = readGolden<Case>(`train/${name}`);
        const [{ checkpoint, losses }] = golden.cases;
        const model =
          checkpoint === null
            ? smallGpt(golden)
            : await loadTrainableModel(fileURLToPath(new URL(`../golden/${checkpoint}`, import.meta.url)));
        const ids = golden.input('tokens') as CaseInput;
        const [B, T] = ids.shape;
        const tokens = Array.from({ length: B }, (_, b) => Array.from(ids.values).slice(b * T, (b + 1) * T));
        const step = valueAndGrad((m: LanguageModel & typeof model) => causalLmLoss(m, tokens));

        const [loss, gradients] = step(model);
        expect(Math.abs(loss.dataSync()[0] - losses[0])).toBeLessThan(1e-4 * losses[0]);
        // The same tokens in their other forms.
        const typed = tokens.map((row) => Int32Array.from(row));
        for (const form of [typed, tensor(Int32Array.from(tokens.flat()), { shape: [B, T] })]) {
          expect(causalLmLoss(model, form).dataSync()).toEqual(loss.dataSync());
        }
        for (const [path, gradient] of Object.entries(gradients) as [string, Tensor][]) {
          const want = storedGradient(golden, path, gradient.shape);
          expect(want, path).toBeDefined();
          expect(difference(gradient.dataSync(), want as ArrayLike<number>, 1e-4), path).toBeUndefined();
          gradient.dispose();
        }

        const optimizer = new Optimizer(
          model,
          chain(clipByGlobalNorm(1), adamw({ learningRate: 1e-3, b1: 0.9, b2: 0.95, weightDecay: 0.1 })),
        );
        const got: number[] = [];
        for (let i = 0; i < 10; i++) {
          const [value, found] = step(model);
          got.push(value.dataSync()[0]);
          value.dispose();
          optimizer.update(model, found as Record<string, Tensor>);
        }
        got.push(causalLmLoss(model, tokens).dataSync()[0]);
        for (const [i, value] of got.entries()) {
          expect(Math.abs(value - losses[i]), `step ${i}: ${value} against ${losses[i]}`).toBeLessThan(
            2e-4 * Math.max(1, losses[i]),
          );
        }
        model.dispose();
      });
    }
  });
}
