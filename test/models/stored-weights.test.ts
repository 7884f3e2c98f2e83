/**
 * GGUF models in block types, and parts of their tensors, against transformers' logits on the dequantised
 * weights.
 */
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { open } from '../../src/backend/registry.ts';
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

describe.each(BACKENDS)('rows of a stored tensor on %s', (name) => {
  const backend = open(name);
  const path = join(GOLDEN, 'quant/k-mixed.gguf');

  test.each(['blk.0.attn_q.weight', 'blk.0.ffn_up.weight', 'blk.0.ffn_norm.weight', 'output.weight'])(
    '%s',
    async (tensor) => {
      await using checkpoint = await openCheckpoint(path);
      const whole = loadTensor(checkpoint, tensor, { backend });
      const allocate = vi.spyOn(backend, 'allocate');
      const rows = [whole.shape[0] >> 2, whole.shape[0] - 1] as const;
      const part = loadTensor(checkpoint, tensor, { backend, rows });
      // A part of the mapped file: what fused projections are made of.
      if (name === 'native') expect(allocate).not.toHaveBeenCalled();
      allocate.mockRestore();
      expect(part.shape).toEqual([rows[1] - rows[0], ...whole.shape.slice(1)]);
      const width = whole.size / whole.shape[0];
      expect(part.dataSync()).toEqual(whole.dataSync().slice(rows[0] * width, rows[1] * width));
      for (const wrong of [
        [-1, 2],
        [2, 1],
        [0, whole.shape[0] + 1],
        [0.5, 1],
      ] as const) {
        expect(() => loadTensor(checkpoint, tensor, { backend, rows: wrong })).toThrow(
          `expected rows inside 0 to ${whole.shape[0]}, got ${wrong[0]} to ${wrong[1]}`,
        );
      }
      part.dispose();
      whole.dispose();
    },
  );
});
