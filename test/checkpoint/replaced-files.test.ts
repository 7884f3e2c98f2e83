/** A file that is replaced after its header was read is never read with the old header. */
import {
  cpSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { open } from '../../src/backend/registry.ts';
import { FormatError, loadTensor, openCheckpoint, writeSafetensors } from '../../src/checkpoint/index.ts';
import { removeCheckpoints, tinyGguf } from '../models/checkpoints.ts';
import { BACKENDS, GOLDEN } from '../models/golden.ts';

const made: string[] = [];
afterAll(() => {
  for (const path of made) rmSync(path, { recursive: true, force: true });
  removeCheckpoints();
});

function copyOf(name: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'gqa-replaced-'));
  made.push(folder);
  cpSync(join(GOLDEN, name), folder, { recursive: true });
  return folder;
}

/**
 * Another file under the name `path`, as `mv` puts it there: with its size and time, or with a longer header.
 */
async function replace(path: string, like: 'alike' | 'longer'): Promise<void> {
  const beside = `${path}.new`;
  const { size, atime, mtime } = statSync(path);
  if (like === 'alike') {
    writeFileSync(beside, new Uint8Array(size));
    utimesSync(beside, atime, mtime);
  } else {
    const data = new Float32Array(4096);
    await writeSafetensors(beside, {
      [`a longer name ${'x'.repeat(200)}`]: { dtype: 'f32', shape: [4096], data },
    });
  }
  renameSync(beside, path);
}

const REPLACED =
  /expected the file whose header was read, got another one in its place; open the checkpoint again$/;

describe.each(['tiny-llama/mha', 'tiny-llama/sharded', 'gguf'])('%s', (name) => {
  const fresh = async () => (name === 'gguf' ? await tinyGguf('mha') : copyOf(name));

  test.each(['alike', 'longer'] as const)('replaced by a file that is %s', async (like) => {
    for (const backend of BACKENDS) {
      await using checkpoint = await openCheckpoint(await fresh());
      const first = [...checkpoint.tensors.values()].at(-1)!;
      await replace(first.path, like);
      const loading = () => loadTensor(checkpoint, first.name, { backend: open(backend) });
      expect(loading).toThrow(FormatError);
      expect(loading).toThrow(REPLACED);
    }
    await using checkpoint = await openCheckpoint(await fresh());
    const { name: tensor, path } = [...checkpoint.tensors.values()].at(-1)!;
    await replace(path, like);
    await expect(checkpoint.readBytes(tensor)).rejects.toThrow(REPLACED);
    await expect(checkpoint.readInto(tensor, 0, new Uint8Array(4))).rejects.toThrow(REPLACED);
  });

  test('replaced after the first read, the old file goes on to be read', async () => {
    for (const backend of BACKENDS) {
      await using checkpoint = await openCheckpoint(await fresh());
      const { name: tensor, path } = [...checkpoint.tensors.values()].at(-1)!;
      const before = loadTensor(checkpoint, tensor, { backend: open(backend) });
      const want = await checkpoint.readBytes(tensor);
      await replace(path, 'alike');
      const after = loadTensor(checkpoint, tensor, { backend: open(backend) });
      expect(after.dataSync()).toEqual(before.dataSync());
      expect(await checkpoint.readBytes(tensor)).toEqual(want);
    }
  });
});

test('a file that was written into is noticed by its time or size', async () => {
  const touched = copyOf('tiny-llama/mha');
  await using checkpoint = await openCheckpoint(touched);
  const { name, path } = [...checkpoint.tensors.values()][0];
  utimesSync(path, new Date(), new Date(2001, 1, 1));
  await expect(checkpoint.readBytes(name)).rejects.toThrow(REPLACED);
  const cut = copyOf('tiny-llama/mha');
  await using other = await openCheckpoint(cut);
  truncateSync(join(cut, 'model.safetensors'), 4000);
  expect(() => loadTensor(other, name, { backend: open(BACKENDS[0]) })).toThrow(REPLACED);
  expect(readdirSync(dirname(path))).toContain('model.safetensors');
});
