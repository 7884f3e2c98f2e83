/**
 * Models in several GGUF files, opened by the first part, and the errors for a missing, wrong or later part.
 */
import { copyFileSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  FormatError,
  type GgufPair,
  openCheckpoint,
  type TensorBytes,
  writeGguf,
} from '../../src/checkpoint/index.ts';
import { convertCheckpoint } from '../../src/convert/index.ts';
import { loadModel } from '../../src/models/index.ts';
import { readModelShape } from '../../src/plan/index.ts';
import { loadTrainableModel } from '../../src/train/index.ts';
import { runCli } from '../cli/run-cli.ts';
import { removeCheckpoints, tinyGguf } from '../models/checkpoints.ts';

const N = 3;
const TOKENS = [[5, 9, 3, 17, 40]];
let whole: string;
let folder: string;
const made: string[] = [];

beforeAll(async () => {
  whole = await tinyGguf('gqa-tied');
  folder = await split(whole);
});
afterAll(() => {
  for (const path of made) rmSync(path, { recursive: true, force: true });
  removeCheckpoints();
});

const part = (index: number, count = N) =>
  `m-${String(index + 1).padStart(5, '0')}-of-${String(count).padStart(5, '0')}.gguf`;

interface Changes {
  /** Tensors of the first part; default a third. */
  readonly first?: number;
  /** What a part says its number is. */
  readonly number?: (index: number) => number;
  /** What `split.tensors.count` adds. */
  readonly more?: number;
  /** Puts the first tensor of the model into the last part too. */
  readonly twice?: boolean;
}

/** The model in three files, as llama-gguf-split writes them, in a fresh folder. */
async function split(path: string, { first, number = (i) => i, more = 0, twice }: Changes = {}) {
  const to = mkdtempSync(join(tmpdir(), 'gqa-parts-'));
  made.push(to);
  await using checkpoint = await openCheckpoint(path);
  const { metadata, metadataTypes } = checkpoint.gguf!;
  const all = [...checkpoint.tensors.values()];
  const third = Math.ceil(all.length / 3);
  const ends = [0, first ?? third, 2 * third, all.length];
  for (let i = 0; i < N; i++) {
    const pairs = new Map<string, GgufPair>();
    if (i === 0)
      for (const [key, value] of metadata) pairs.set(key, { type: metadataTypes.get(key)!, value });
    pairs.set('split.no', { type: 'u16', value: number(i) });
    pairs.set('split.count', { type: 'u16', value: N });
    pairs.set('split.tensors.count', { type: 'i32', value: all.length + more });
    const tensors = new Map<string, TensorBytes>();
    const own = [...all.slice(ends[i], ends[i + 1]), ...(twice && i === 2 ? [all[0]] : [])];
    for (const { name, dtype, shape } of own) {
      tensors.set(name, { dtype, shape, data: await checkpoint.readBytes(name) });
    }
    await writeGguf(join(to, part(i)), pairs, tensors);
  }
  return to;
}

async function logitsOf(path: string) {
  const model = await loadModel(path);
  const logits = model.forward(TOKENS).dataSync();
  model.dispose();
  return logits;
}

async function failure(path: string): Promise<Error> {
  const error = await openCheckpoint(path).then(
    () => expect.fail('opened'),
    (reason: Error) => reason,
  );
  expect(error.message.split('\n')).toHaveLength(1);
  return error;
}

test('opened by the first part or by the folder, it is the whole model', async () => {
  const bare = await split(whole, { first: 0 });
  for (const path of [join(folder, part(0)), folder, bare]) {
    await using checkpoint = await openCheckpoint(path);
    await using want = await openCheckpoint(whole);
    expect([...checkpoint.tensors.keys()].sort()).toEqual([...want.tensors.keys()].sort());
    expect(checkpoint.shape).toEqual(want.shape);
    for (const name of want.tensors.keys()) {
      expect(await checkpoint.readBytes(name), name).toEqual(await want.readBytes(name));
    }
    expect(await logitsOf(path)).toEqual(await logitsOf(whole));
  }
  expect((await readModelShape(folder)).layers).toEqual((await readModelShape(whole)).layers);
  expect((await readModelShape(join(bare, part(0)))).numKeyValueHeads).toBe(2);
});

test('training takes it, and converting writes one file without the keys of parts', async () => {
  const model = await loadTrainableModel(folder);
  const plain = await loadTrainableModel(whole);
  expect(model.forward(TOKENS).dataSync()).toEqual(plain.forward(TOKENS).dataSync());
  model.dispose();
  plain.dispose();
  const [to, want] = ['parts.gguf', 'whole.gguf'].map((name) =>
    join(folder, '..', `${basename(folder)}-${name}`),
  );
  made.push(to, want);
  await convertCheckpoint({ from: folder, to, numKeyValueHeads: 1 });
  await convertCheckpoint({ from: whole, to: want, numKeyValueHeads: 1 });
  await using checkpoint = await openCheckpoint(to);
  expect([...checkpoint.gguf!.metadata.keys()].filter((key) => key.startsWith('split.'))).toEqual([]);
  expect(await logitsOf(to)).toEqual(await logitsOf(want));
});

test('the command line inspects and plans it', async () => {
  const json = async (...args: string[]) => {
    const { code, stdout, stderr } = await runCli([...args, '--json']);
    expect([code, stderr]).toEqual([0, '']);
    return JSON.parse(stdout) as Record<string, unknown>;
  };
  const first = join(folder, part(0));
  expect((await json('inspect', first)).parameters).toBe((await json('inspect', whole)).parameters);
  expect((await json('plan', first)).shape).toEqual((await json('plan', whole)).shape);
});

test('a later part names the first', async () => {
  const error = await failure(join(folder, part(1)));
  expect(error).toBeInstanceOf(FormatError);
  expect(error.message).toBe(
    `${join(folder, part(1))}: expected the first part of a model in 3 parts, got part 2; give ${join(folder, part(0))}`,
  );
  await expect(readModelShape(join(folder, part(2)))).rejects.toThrow(
    `got part 3; give ${join(folder, part(0))}`,
  );
});

test('missing parts are named', async () => {
  const lacking = await split(whole);
  rmSync(join(lacking, part(1)));
  rmSync(join(lacking, part(2)));
  expect((await failure(lacking)).message).toBe(
    `${join(lacking, part(0))}: expected its 3 parts next to it, got no ${part(1)}, ${part(2)}; fetch the missing files`,
  );
  const headless = await split(whole);
  rmSync(join(headless, part(0)));
  expect((await failure(headless)).message).toBe(
    `${headless}: expected the first part ${part(0)}, got ${part(1)}, ${part(2)}; fetch it too`,
  );
  await expect(readModelShape(headless)).rejects.toThrow(`expected the first part ${part(0)}`);
});

test('a part that is another one, or none, is named', async () => {
  const swapped = await split(whole, { number: (i) => [0, 2, 1][i] });
  expect((await failure(swapped)).message).toBe(
    `${join(swapped, part(1))}: expected part 2 of 3, got part 3 of 3`,
  );
  const foreign = await split(whole);
  copyFileSync(whole, join(foreign, part(2)));
  expect((await failure(foreign)).message).toBe(
    `${join(foreign, part(2))}: expected part 3 of 3, got another file`,
  );
});

test('tensors in two parts, or too few of them', async () => {
  const twice = await split(whole, { twice: true });
  expect((await failure(twice)).message).toMatch(
    /m-00003-of-00003\.gguf: expected each tensor in one part, got token_embd\.weight in .*m-00001-of-00003\.gguf too$/,
  );
  const few = await split(whole, { more: 2 });
  expect((await failure(few)).message).toMatch(
    /split\.tensors\.count: expected \d+ tensors in 3 parts, got \d+; fetch the parts again$/,
  );
});

test('a first part by another name cannot find the others', async () => {
  const renamed = await split(whole);
  renameSync(join(renamed, part(0)), join(renamed, 'model.gguf'));
  expect((await failure(join(renamed, 'model.gguf'))).message).toBe(
    `${join(renamed, 'model.gguf')}: expected a name …-00001-of-00003.gguf of the first of 3 parts, which finds the others`,
  );
  renameSync(join(renamed, 'model.gguf'), join(renamed, part(0, 4)));
  expect((await failure(join(renamed, part(0, 4)))).message).toMatch(
    /expected a name …-00001-of-00003\.gguf/,
  );
});
