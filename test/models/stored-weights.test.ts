/** Whole GGUF models in block types against transformers' logits on the dequantised weights, on every backend. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { loadTensor, openCheckpoint } from '../../src/checkpoint/index.ts';
import { loadModel } from '../../src/models/index.ts';
import { BACKENDS, collect, expectClose, GOLDEN } from './golden.ts';

/** A golden file beside the models, its tensors under a prefix. */
async function golden(file: string, prefix: string): Promise<(name: string) => number[]> {
  const checkpoint = await openCheckpoint(join(GOLDEN, 'quant', `${file}.safetensors`));
  return (name) => Array.from(loadTensor(checkpoint, prefix + name).dataSync());
}

const FILES: readonly (readonly [file: string, golden: string, prefix: string])[] = [
  ['second-q8_0', 'gguf', 'second-q8_0/'],
  ['second-mixed', 'gguf', 'second-mixed/'],
  ['gqa-tied-f16', 'gguf', 'gqa-tied-f16/'],
  ['llama3-rope-f32', 'gguf', 'llama3-rope-f32/'],
  ['k-mixed', 'k-mixed', ''],
];

test.each(BACKENDS.flatMap((backend) => FILES.map((file) => [backend, ...file] as const)))(
  '%s: %s',
  async (backend, file, group, prefix) => {
    const read = await golden(group, prefix);
    const model = await loadModel(join(GOLDEN, 'quant', `${file}.gguf`), { backend });
    const flat = read('tokens');
    const rows = [flat.slice(0, flat.length / 2), flat.slice(flat.length / 2)];
    const want = read('logits');
    expectClose(model.forward(rows).dataSync(), want, 2e-5);
    // One token at a time goes another way in the kernels.
    const cache = model.initCache({ batchSize: 1, maxLength: rows[0].length });
    const { vocabSize: V } = model.config;
    rows[0].forEach((token, at) => {
      const logits = model.forward([[token]], { cache }).dataSync();
      expectClose(logits, want.slice(at * V, (at + 1) * V), 2e-5, `token ${at}`);
    });
    const answer = read('greedy/tokens');
    const options = { maxNewTokens: answer.length, stop: [] };
    expect(await collect(model, read('greedy/prompt'), options)).toEqual(answer);
    cache.dispose();
    model.dispose();
  },
);
