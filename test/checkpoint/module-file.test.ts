/**
 * Modules saved to and loaded from safetensors; one file has the state of a Flax module
 * (test/golden/nnx/checkpoint).
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { loadModule, openCheckpoint, saveModule } from '../../src/checkpoint/index.ts';
import { Linear, MultiHeadAttention, type MultiHeadAttentionOptions, Rngs } from '../../src/nn/index.ts';
import { expectClose, load, toTensor } from '../nn/golden.ts';
import { constructorOptions } from '../nn/options.ts';
import { withFolder } from './temporary-folder.ts';

const golden = new URL('../golden/nnx/', import.meta.url);
const { options } = JSON.parse(readFileSync(new URL('checkpoint.json', golden), 'utf8'));

function make(seed: number): MultiHeadAttention {
  const made = { ...constructorOptions(options), decode: false, rngs: new Rngs(seed) };
  return new MultiHeadAttention(made as unknown as MultiHeadAttentionOptions);
}

test('a file of Flax’s parameters loads by name', async () => {
  const module = make(1);
  await loadModule(fileURLToPath(new URL('checkpoint/model.safetensors', golden)), module);
  const arrays = load('nnx/checkpoint');
  expectClose(module.forward(toTensor(arrays.x)).dataSync(), arrays.output.values, 1e-5);
});

test('saved and loaded again, the numbers are the same', () =>
  withFolder({}, async (folder) => {
    const path = join(folder, 'layer.safetensors');
    const [saved, loaded] = [make(2), make(3)];
    await saveModule(path, saved);
    await loadModule(path, loaded);
    for (const [name, { value }] of saved.parameters()) {
      expect([name, ...loaded.getState()[name].dataSync()]).toEqual([name, ...value.dataSync()]);
    }
    await using checkpoint = await openCheckpoint(path);
    expect([...checkpoint.tensors.keys()].sort()).toEqual([...saved.parameters().keys()].sort());
    expect(checkpoint.tensors.has('query_ln.scale')).toBe(true);
  }));

test('a file of another module is refused, and the module stays as it was', () =>
  withFolder({}, async (folder) => {
    const path = join(folder, 'other.safetensors');
    await saveModule(path, new Linear({ inFeatures: 3, outFeatures: 2, rngs: new Rngs(0) }));
    const module = new Linear({ inFeatures: 2, outFeatures: 3, rngs: new Rngs(1) });
    const before = module.kernel.value.dataSync();
    await expect(loadModule(path, module)).rejects.toThrow('setState: expected kernel [2, 3], got [3, 2]');
    await expect(loadModule(path, make(0))).rejects.toThrow(
      /nothing for query.kernel, .* and no parameter kernel, bias/,
    );
    expect(module.kernel.value.dataSync()).toEqual(before);
  }));
