/**
 * A model in a folder in memory, without a disk: loaded, converted to both formats, uptrained and resumed;
 * and folders of a program that break their contract.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { beforeAll, expect, test } from 'vitest';
import {
  type FileSource,
  type Folder,
  loadModule,
  openCheckpoint,
  saveModule,
  writeGguf,
  writeSafetensors,
} from '../../src/checkpoint/index.ts';
import { convertCheckpoint } from '../../src/convert/index.ts';
import { MemoryFolder } from '../../src/files/memory-folder.ts';
import { setBackend } from '../../src/index.ts';
import { loadModel } from '../../src/models/index.ts';
import { Linear, Rngs } from '../../src/nn/index.ts';
import { uptrain } from '../../src/train/index.ts';

const DEMO = new URL('../../demo/model/', import.meta.url);
const prompt = [[10, 20, 30, 40, 50]];
let memory: MemoryFolder;

beforeAll(async () => {
  await setBackend('native').catch(() => setBackend('wasm'));
  const files = readdirSync(DEMO).map(
    (name) => [`model/${name}`, readFileSync(new URL(name, DEMO))] as const,
  );
  memory = new MemoryFolder('memory', Object.fromEntries(files));
});

async function logitsOf(place: Parameters<typeof loadModel>[0]): Promise<number[]> {
  const model = await loadModel(place);
  try {
    return Array.from(model.forward(prompt).dataSync());
  } finally {
    model.dispose();
  }
}

test('a model gives the logits that it gives from a disk', async () => {
  const onDisk = await logitsOf(DEMO.pathname);
  expect(await logitsOf(memory.folder('model'))).toEqual(onDisk);
});

test('a conversion is written as it is on a disk, and runs', async () => {
  const to = { folder: memory, file: 'one' };
  const { files } = await convertCheckpoint({ from: memory.folder('model'), to, numKeyValueHeads: 1 });
  expect(files).toContain('config.json');
  const model = await loadModel(memory.folder('one'));
  expect([model.config.numKeyValueHeads, model.tokenizer?.decode([10]).length]).toEqual([1, 1]);
  model.dispose();
  await expect(convertCheckpoint({ from: memory.folder('model'), to, numKeyValueHeads: 1 })).rejects.toThrow(
    /one/,
  );
});

test('a module is saved and loaded', async () => {
  const [a, b] = [1, 2].map((seed) => new Linear({ inFeatures: 3, outFeatures: 2, rngs: new Rngs(seed) }));
  await saveModule({ folder: memory, file: 'linear.safetensors' }, a);
  await loadModule({ folder: memory, file: 'linear.safetensors' }, b);
  expect(b.kernel.value.toArray()).toEqual(a.kernel.value.toArray());
});

test('a run keeps its checkpoints there, and resumes to the same numbers', async () => {
  const text = 'Call me Ishmael. Some years ago, never mind how long precisely. '.repeat(120);
  const run = (file: string, steps: number, resume = false) =>
    uptrain({
      from: memory.folder('one'),
      text,
      out: { folder: memory, file },
      steps,
      batchSize: 2,
      evaluateEvery: 2,
      saveEvery: 2,
      resume,
    });
  const whole = await run('whole', 4);
  whole.model.dispose();
  const names = (await memory.folder('whole').list()).map(({ name }) => name);
  expect(names).toEqual(expect.arrayContaining(['latest', 'metrics.jsonl', 'step-2', 'step-4']));
  // As a process that ended after step 2 leaves it.
  const files = new Map<string, Uint8Array>();
  for (const [folder, prefix] of [
    [memory.folder('whole'), ''],
    [memory.folder('whole').folder('step-2'), 'step-2/'],
  ] as const) {
    for (const { name, kind } of await folder.list()) {
      const source = kind === 'file' ? await folder.open(name) : undefined;
      if (source) files.set(prefix + name, await source.read(0, source.size));
    }
  }
  files.set('latest', new TextEncoder().encode('step-2\n'));
  const half = new MemoryFolder('half', Object.fromEntries(files));
  const resumed = await uptrain({
    ...{
      from: memory.folder('one'),
      text,
      out: half,
      steps: 4,
      batchSize: 2,
      evaluateEvery: 2,
      saveEvery: 2,
      resume: true,
    },
  });
  resumed.model.dispose();
  expect(await logitsOf(half.folder('step-4'))).toEqual(
    await logitsOf(memory.folder('whole').folder('step-4')),
  );
});

test.each([
  ['../x', RangeError],
  ['a/b', RangeError],
  ['..', RangeError],
  ['', RangeError],
  [5, TypeError],
  [null, TypeError],
])('a file of a folder that is called %o is refused, for reading and for writing', async (file, kind) => {
  const place = { folder: memory, file: file as string };
  const expected = /expected file to be a plain name, not a path, got/;
  const from = memory.folder('model');
  for (const work of [
    openCheckpoint(place),
    convertCheckpoint({ from, to: place, numKeyValueHeads: 1 }),
    writeSafetensors(place, {}),
    writeGguf(place, new Map(), new Map()),
  ]) {
    const error = await work.then(() => undefined).catch((thrown) => thrown);
    expect(error).toBeInstanceOf(kind);
    expect(error.message).toMatch(expected);
  }
});

/** The model's folder with some methods replaced. */
function modelFolder(changed: Partial<Folder>): Folder {
  const folder = memory.folder('model');
  return new Proxy(folder, {
    get(_, name: keyof Folder) {
      const own = changed[name] ?? folder[name];
      return typeof own === 'function' ? own.bind(folder) : own;
    },
  });
}

test('a file in memory whose bytes are of another length is refused', async () => {
  const { size } = (await memory.folder('model').open('model.safetensors'))!;
  for (const [bytes, got] of [
    [new Uint8Array(3), 'bytes of length 3'],
    [[1, 2], 'an array of 2'],
  ]) {
    const open = async (file: string) => {
      const source = await memory.folder('model').open(file);
      return source && ({ ...source, bytes } as FileSource);
    };
    await expect(loadModel(modelFolder({ open }))).rejects.toThrow(
      `memory/model/model.safetensors: expected all ${size} bytes in bytes, got ${got}`,
    );
  }
});

test('a file that can only be read gives the same logits', async () => {
  const open = async (file: string) => {
    const source = await memory.folder('model').open(file);
    return source && { ...source, bytes: undefined };
  };
  expect(await logitsOf(modelFolder({ open }))).toEqual(await logitsOf(memory.folder('model')));
});

test.each([null, 5, {}])(
  'open() of a folder that gives %o is an error that names the file',
  async (given) => {
    const open = async () => given as unknown as FileSource;
    await expect(openCheckpoint(modelFolder({ open }))).rejects.toThrow(
      /memory\/model\/\S+: expected open\(\) of the folder to give a file or undefined, got/,
    );
  },
);

test('free space that is no number is refused before anything is written', async () => {
  const to = { folder: new MemoryFolder('full'), file: 'out' };
  to.folder.space = async () => Number.NaN;
  const writing = convertCheckpoint({ from: memory.folder('model'), to, numKeyValueHeads: 1 });
  await expect(writing).rejects.toThrow(/full\/out: expected \d+ bytes of free space, got NaN/);
  expect(await to.folder.list()).toEqual([]);
});
