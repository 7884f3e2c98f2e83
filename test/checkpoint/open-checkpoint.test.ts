import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../src/checkpoint/open-checkpoint.ts';
import { FormatError } from '../../src/format/format-error.ts';
import { buildGguf, buildSafetensors, smallGguf, smallSafetensors, u32Pair } from '../format/build-files.ts';
import { withFolder } from './temporary-folder.ts';

const CONFIG = JSON.stringify({
  ...{ model_type: 'llama', hidden_size: 6, num_hidden_layers: 2, num_attention_heads: 3 },
  ...{ num_key_value_heads: 1, vocab_size: 11 },
});

/** One u8 tensor per name, `values[i]` repeated 5 times. */
function shard(names: readonly string[], values: readonly number[]): Uint8Array {
  const entries = names.map((name, i) => [
    name,
    { dtype: 'U8', shape: [5], data_offsets: [5 * i, 5 * i + 5] },
  ]);
  const data = Uint8Array.from(values.flatMap((value) => [value, value, value, value, value]));
  return buildSafetensors(Object.fromEntries(entries), data);
}

const sharded = (weightMap: object) => ({
  'config.json': CONFIG,
  'model.safetensors.index.json': JSON.stringify({ metadata: { total_size: 15 }, weight_map: weightMap }),
  'model-1.safetensors': shard(['a', 'b'], [1, 2]),
  'model-2.safetensors': shard(['c'], [3]),
});

describe('openCheckpoint', () => {
  it('opens a directory with one safetensors file', async () => {
    const files = {
      'config.json': CONFIG,
      'generation_config.json': '{"eos_token_id": 2}',
      'tokenizer.json': '{"ü": 1}',
      'model.safetensors': smallSafetensors(),
    };
    await withFolder(files, async (folder) => {
      await using checkpoint = await openCheckpoint(folder);
      expect(checkpoint).toMatchObject({
        kind: 'safetensors',
        path: folder,
        directory: folder,
        gguf: undefined,
      });
      expect(checkpoint.config).toMatchObject({ model_type: 'llama' });
      expect(checkpoint.generationConfig).toEqual({ eos_token_id: 2 });
      expect(checkpoint.metadata).toEqual({ format: 'pt' });
      expect(checkpoint.shape).toMatchObject({ numHeads: 3, numKeyValueHeads: 1, headDim: 2 });
      expect(checkpoint.shape).toBe(checkpoint.shape);
      expect(checkpoint.tensors.get('b.weight')).toMatchObject({
        ...{ dtype: 'bf16', shape: [3, 1], path: join(folder, 'model.safetensors') },
      });
      expect(await checkpoint.readText('tokenizer.json')).toBe('{"ü": 1}');
      expect(await checkpoint.readText('missing.json')).toBeUndefined();
      await expect(checkpoint.readText('../secret')).rejects.toThrow(RangeError);
    });
  });

  it('opens the file of a folder as what it contains, whatever its name', async () => {
    const gguf = smallGguf();
    await withFolder({ 'model.safetensors': gguf }, async (folder) => {
      await using checkpoint = await openCheckpoint(folder);
      expect([checkpoint.kind, checkpoint.path]).toEqual(['gguf', folder]);
    });
  });

  it('opens one safetensors file by path, with or without a config beside it', async () => {
    await withFolder({ 'w.safetensors': smallSafetensors() }, async (folder) => {
      const path = join(folder, 'w.safetensors');
      await using checkpoint = await openCheckpoint(path);
      expect(checkpoint.path).toBe(path);
      expect(checkpoint.config).toBeUndefined();
      expect(() => checkpoint.shape).toThrow(
        'config.json: expected config.json next to the weights, got none',
      );
      await writeFile(join(folder, 'config.json'), CONFIG);
      await using second = await openCheckpoint(path);
      expect(second.shape.numLayers).toBe(2);
    });
  });

  it('opens shards and reads bytes from each', async () => {
    const files = sharded({ c: 'model-2.safetensors', a: 'model-1.safetensors', b: 'model-1.safetensors' });
    await withFolder(files, async (folder) => {
      const checkpoint = await openCheckpoint(folder);
      expect([...checkpoint.tensors.keys()]).toEqual(['c', 'a', 'b']);
      expect([...(await checkpoint.readBytes('b'))]).toEqual([2, 2, 2, 2, 2]);
      expect([...(await checkpoint.readBytes('c', 3))]).toEqual([3, 3]);
      expect([...(await checkpoint.readBytes('c', 1, 2))]).toEqual([3, 3]);
      await expect(checkpoint.readBytes('c', 3, 3)).rejects.toThrow(
        'a slice of its 5 bytes, got 3 bytes at 3',
      );
      await expect(checkpoint.readBytes('c', -1, 2)).rejects.toThrow(RangeError);
      const target = new Uint8Array(3);
      await checkpoint.readInto('b', 2, target);
      expect([...target]).toEqual([2, 2, 2]);
      await expect(checkpoint.readInto('b', 3, target)).rejects.toThrow(
        'a slice of its 5 bytes, got 3 bytes at 3',
      );
      await expect(checkpoint.readBytes('d')).rejects.toThrow('expected one of its 3 tensors, got "d"');
      await checkpoint.close();
      await checkpoint.close();
      await expect(checkpoint.readBytes('b')).rejects.toThrow('read after close()');
    });
  });

  it('opens a GGUF file and a directory that holds one', async () => {
    await withFolder({ 'm.gguf': smallGguf(), 'README.md': '' }, async (folder) => {
      for (const path of [folder, join(folder, 'm.gguf')]) {
        await using checkpoint = await openCheckpoint(path);
        expect(checkpoint).toMatchObject({ kind: 'gguf', path, directory: folder, config: undefined });
        expect(checkpoint.gguf?.metadata.get('flag')).toBe(true);
        expect(checkpoint.shape).toMatchObject({ modelType: 'llama', numHeads: 4, headDim: 8, vocabSize: 3 });
        expect((await checkpoint.readBytes('blk.0.q8_0'))[0]).toBe(128);
      }
    });
  });

  it.each<[string, Record<string, Uint8Array | string>, string, string]>([
    [
      'a path with nothing there',
      {},
      'nope',
      'nope: expected a .gguf file, a .safetensors file, or a directory',
    ],
    ['a path below a file', { 'm.gguf': smallGguf() }, 'm.gguf/x', 'got nothing there'],
    [
      'an empty directory',
      {},
      '',
      'expected model.safetensors, model.safetensors.index.json or one .gguf file, got an empty directory',
    ],
    ['two .gguf files', { 'a.gguf': '', 'b.gguf': '' }, '', 'got 2 (a.gguf, b.gguf); give the path of one'],
    [
      'other .safetensors names',
      { 'adapter.safetensors': '' },
      '',
      'got adapter.safetensors; give the path of one',
    ],
    [
      'PyTorch weights',
      { 'pytorch_model.bin': 'PK', 'config.json': CONFIG },
      '',
      "got PyTorch's pytorch_model.bin; convert it to safetensors first",
    ],
    ['PyTorch shards', { 'pytorch_model-00001-of-00002.bin': 'PK' }, '', 'convert it to safetensors first'],
    [
      'a PyTorch file',
      { 'pytorch_model.bin': 'PK\x03\x04' },
      'pytorch_model.bin',
      'got a PyTorch or zip file; convert',
    ],
    [
      'a file of no known kind',
      { 'x.dat': 'hello world' },
      'x.dat',
      'at byte 0: expected a .gguf file, a .safetensors file, or a directory with model.safetensors, model.safetensors.index.json or one .gguf file, got a file that begins with 68 65 6c 6c 6f 20 77 6f',
    ],
    ['an empty file', { 'x.dat': '' }, 'x.dat', 'got a file that begins with nothing (it is empty)'],
    [
      'a Git LFS pointer',
      { 'model.safetensors': 'version https://git-lfs.github.com/spec/v1\noid sha256:0' },
      '',
      'got a Git LFS pointer; fetch the file with git lfs pull',
    ],
    [
      'the index instead of its directory',
      { 'model.safetensors.index.json': '{"weight_map": {}}' },
      'model.safetensors.index.json',
      'got the index of shards; give its directory',
    ],
    [
      'a config that is not JSON',
      { 'model.safetensors': smallSafetensors(), 'config.json': '{' },
      '',
      'config.json: expected JSON, got',
    ],
    [
      'an index that is not JSON',
      { 'model.safetensors.index.json': '{"weight_map": ' },
      '',
      'index.json: at byte 15: expected a JSON value',
    ],
    ['an index without weight_map', { 'model.safetensors.index.json': '{}' }, '', 'expected a weight_map'],
    [
      'an index that names another folder',
      sharded({ a: '../model-1.safetensors' }),
      '',
      'weight_map "a": expected a file name without a folder',
    ],
    [
      'a missing shard',
      sharded({ a: 'model-1.safetensors', z: 'model-3.safetensors' }),
      '',
      'index.json: expected its 2 shards next to it, got no model-3.safetensors; fetch the missing files',
    ],
    [
      'a tensor that its shard lacks',
      sharded({ a: 'model-1.safetensors', b: 'model-2.safetensors' }),
      '',
      'expected tensor "b" in model-2.safetensors, got a shard without it',
    ],
    [
      'one part of a GGUF in two',
      { 'm-00001-of-00002.gguf': buildGguf({ pairs: [u32Pair('split.count', 2)] }) },
      '',
      'expected its 2 parts next to it, got no m-00002-of-00002.gguf; fetch the missing files',
    ],
  ])('refuses %s', async (_, files, path, text) => {
    await withFolder(files, async (folder) => {
      const error = await openCheckpoint(join(folder, path)).catch((reason: unknown) => reason as Error);
      expect(error).toBeInstanceOf(Error);
      expect((error as Error).message).toContain(text);
      expect((error as Error).message).not.toContain('\n');
    });
  });

  it('names the file and the byte of damage, also in a shard', async () => {
    const files = sharded({ a: 'model-1.safetensors', c: 'model-2.safetensors' });
    await withFolder({ ...files, 'm.gguf': smallGguf() }, async (folder) => {
      const cut = join(folder, 'model-2.safetensors');
      await truncate(cut, files['model-2.safetensors'].length - 1);
      const error = await openCheckpoint(folder).catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(FormatError);
      expect(error).toMatchObject({ file: cut, byteOffset: expect.any(Number) });
      await truncate(join(folder, 'm.gguf'), 100);
      await expect(openCheckpoint(join(folder, 'm.gguf'))).rejects.toThrow(/m\.gguf: at byte \d+: expected/);
    });
  });

  it('notices a file that shrank after it was opened', async () => {
    await withFolder({ 'w.safetensors': smallSafetensors() }, async (folder) => {
      await using checkpoint = await openCheckpoint(join(folder, 'w.safetensors'));
      await checkpoint.readBytes('c.weight');
      await truncate(join(folder, 'w.safetensors'), 16);
      await expect(checkpoint.readBytes('c.weight')).rejects.toThrow('got the end of the file');
    });
  });
});
