/** Conversion of checkpoints with an output head that differs from their config, and of f64 weights. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, expect, test, vi } from 'vitest';
import { openCheckpoint, type TensorBytes, writeSafetensors } from '../../src/checkpoint/index.ts';
import { convertCheckpoint } from '../../src/convert/index.ts';
import { loadModel } from '../../src/models/index.ts';
import { copyTiny, type Json, removeCheckpoints } from '../models/checkpoints.ts';
import { expectClose, GOLDEN } from '../models/golden.ts';
import { caseNamed, variant } from '../models/variants.ts';
import { freshPath, logitsOf, removeFolders } from './folders.ts';

const warn = vi.spyOn(console, 'warn').mockImplementation(() => {});
afterEach(() => warn.mockClear());
afterAll(() => {
  removeCheckpoints();
  removeFolders();
});
const TOKENS = [5, 9, 3, 17, 40];

const configOf = (folder: string) => JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as Json;

test.each([
  ['llama rolled', 6],
  ['qwen2 rolled', 4],
  ['falcon rolled', 5],
  ['gpt2 rolled', 4],
])('%s: a head of its own stays one, and the config says so', async (name, to) => {
  const from = await variant(caseNamed(name));
  const out = freshPath('out');
  const dtype = name === 'gpt2 rolled' ? { dtype: 'f32' as const } : {};
  await convertCheckpoint({ from, to: out, numKeyValueHeads: to, ...dtype });
  const want = await logitsOf(from, TOKENS);
  warn.mockClear();
  expectClose(await logitsOf(out, TOKENS), want, 2e-5);
  expect(configOf(out).tie_word_embeddings).toBe(false);
  expect(warn).not.toHaveBeenCalled();
});

test('a head of its own goes into a GGUF', async () => {
  const from = await variant(caseNamed('llama rolled'));
  const out = freshPath('out.gguf');
  await convertCheckpoint({ from, to: out, numKeyValueHeads: 2 });
  await using checkpoint = await openCheckpoint(out);
  expect(checkpoint.tensors.has('output.weight')).toBe(true);
  expectClose(await logitsOf(out, TOKENS), await logitsOf(from, TOKENS), 2e-5);
});

test.each(['llama head only', 'llama both', 'llama base', 'falcon base', 'gpt2 base'])(
  '%s: converted in the form it came in',
  async (name) => {
    const from = await variant(caseNamed(name));
    const out = freshPath('out');
    const { numHeads } = await withConfig(from);
    await convertCheckpoint({ from, to: out, numKeyValueHeads: numHeads, dtype: 'f32' });
    await using before = await openCheckpoint(from);
    await using after = await openCheckpoint(out);
    expect([...after.tensors.keys()].sort()).toEqual([...before.tensors.keys()].sort());
    expect(configOf(out).tie_word_embeddings).toEqual(configOf(from).tie_word_embeddings);
    expectClose(await logitsOf(out, TOKENS), await logitsOf(from, TOKENS), 2e-5);
  },
);

async function withConfig(path: string) {
  const model = await loadModel(path, { backend: 'reference' });
  model.dispose();
  return model.config;
}

test('an activation that the GGUF form does not have is refused', async () => {
  const from = copyTiny('mha', { hidden_act: 'relu2' });
  await expect(convertCheckpoint({ from, to: freshPath('out.gguf'), numKeyValueHeads: 2 })).rejects.toThrow(
    'hidden_act: expected silu to write GGUF, whose llama form has no other, got relu2',
  );
});

test('f64 weights stay f64 in a folder, also transposed, and become f32 in a GGUF', async () => {
  const wide = async (name: string) => {
    const folder = copyTiny(name);
    await using checkpoint = await openCheckpoint(folder);
    const tensors: Record<string, TensorBytes> = {};
    for (const [key, { shape, dtype }] of checkpoint.tensors) {
      const bytes = await checkpoint.readBytes(key);
      const floats = () => Float64Array.from(new Float32Array(bytes.buffer, 0, bytes.length / 4));
      tensors[key] =
        dtype === 'f32' ? { dtype: 'f64', shape, data: floats() } : { dtype, shape, data: bytes };
    }
    await writeSafetensors(join(folder, 'model.safetensors'), tensors);
    return folder;
  };
  const dtypes = async (path: string) => {
    await using checkpoint = await openCheckpoint(path);
    return [...new Set([...checkpoint.tensors.values()].map(({ dtype }) => dtype))];
  };
  const [folder, gpt2, gguf] = [freshPath('folder'), freshPath('gpt2'), freshPath('out.gguf')];
  await convertCheckpoint({ from: await wide('mha'), to: folder, numKeyValueHeads: 2 });
  expect(await dtypes(folder)).toEqual(['f64']);
  const narrow = freshPath('narrow');
  await convertCheckpoint({ from: join(GOLDEN, 'tiny-llama/mha'), to: narrow, numKeyValueHeads: 2 });
  expectClose(await logitsOf(folder, TOKENS), await logitsOf(narrow, TOKENS), 2e-5);
  await convertCheckpoint({ from: await wide('mha'), to: gguf, numKeyValueHeads: 4 });
  expect(await dtypes(gguf)).toEqual(['f32']);
  expectClose(await logitsOf(gguf, TOKENS), await logitsOf(join(GOLDEN, 'tiny-llama/mha'), TOKENS), 2e-5);
  await convertCheckpoint({ from: await wide('tiny-gpt2/bare'), to: gpt2, numKeyValueHeads: 1 });
  expect(await dtypes(gpt2)).toEqual(['f64']);
  const plain = freshPath('plain');
  await convertCheckpoint({ from: join(GOLDEN, 'tiny-gpt2/bare'), to: plain, numKeyValueHeads: 1 });
  expectClose(await logitsOf(gpt2, TOKENS), await logitsOf(plain, TOKENS), 2e-5);
});
