/** A model from every kind of source gives the logits that it gives from a path. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { open } from '../../src/backend/registry.ts';
import {
  loadTensor,
  loadTensorAsync,
  MemoryFolder,
  type ModelSource,
  openCheckpoint,
} from '../../src/checkpoint/index.ts';
import { convertCheckpoint } from '../../src/convert/index.ts';
import { setBackend } from '../../src/index.ts';
import { loadModel, saveModel } from '../../src/models/index.ts';
import { readModelShape } from '../../src/plan/index.ts';
import { loadTrainableModel, uptrain } from '../../src/train/index.ts';
import { removeCheckpoints, tinyGguf } from '../models/checkpoints.ts';
import { FakeDirectory } from './fake-directory.ts';

const GOLDEN = fileURLToPath(new URL('../golden/', import.meta.url));
const DEMO = fileURLToPath(new URL('../../demo/model/', import.meta.url));
const prompt = [[5, 9, 3, 17, 20]];
let gguf: Uint8Array<ArrayBuffer>;
let ggufPath: string;

beforeAll(async () => {
  await setBackend('native').catch(() => setBackend('wasm'));
  ggufPath = await tinyGguf('gqa-tied');
  gguf = new Uint8Array(readFileSync(ggufPath));
});
afterAll(removeCheckpoints);

async function logitsOf(source: ModelSource): Promise<number[]> {
  const model = await loadModel(source);
  try {
    return Array.from(model.forward(prompt).dataSync());
  } finally {
    model.dispose();
  }
}

/** The files of a folder as a user picks it: with their paths from the folder above. */
function picked(path: string, top = 'picked'): File[] {
  return readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => {
      const whole = join(entry.parentPath, entry.name);
      const file = new File([readFileSync(whole)], entry.name);
      const webkitRelativePath = `${top}/${whole.slice(path.length).replace(/^\//, '')}`;
      return Object.defineProperty(file, 'webkitRelativePath', {
        value: webkitRelativePath,
        configurable: true,
      });
    });
}

async function handleOf(path: string): Promise<FakeDirectory> {
  const folder = new FakeDirectory('handle');
  for (const name of readdirSync(path)) {
    (await folder.getFileHandle(name, { create: true })).content = new Uint8Array(
      readFileSync(join(path, name)),
    );
  }
  return folder;
}

describe('one GGUF file', () => {
  const SOURCES: Record<string, () => ModelSource | Promise<ModelSource>> = {
    Blob: () => new Blob([gguf]),
    File: () => new File([gguf], 'm.gguf'),
    'a list of one File': () => [new File([gguf], 'm.gguf')],
    ArrayBuffer: () => gguf.buffer,
    'Uint8Array inside a buffer': () => new Uint8Array([1, ...gguf, 1]).subarray(1, gguf.length + 1),
    'Folder and name': () => ({ folder: new MemoryFolder('m', { 'a.gguf': gguf }), file: 'a.gguf' }),
    'file: URL': () => pathToFileURL(ggufPath),
    'file: address as text': () => pathToFileURL(ggufPath).href,
    async 'file handle'() {
      const handle = await new FakeDirectory('x').getFileHandle('m.gguf', { create: true });
      handle.content = gguf;
      return handle;
    },
    async 'directory handle'() {
      const folder = new FakeDirectory('x');
      (await folder.getFileHandle('m.gguf', { create: true })).content = gguf;
      return folder;
    },
  };
  test.each(Object.keys(SOURCES))('%s', async (kind) => {
    expect(await logitsOf(await SOURCES[kind]())).toEqual(await logitsOf(ggufPath));
    expect(await readModelShape(await SOURCES[kind]())).toEqual(await readModelShape(ggufPath));
  });
});

/** Every checkpoint of the golden files: fused, transposed, stacked, sharded, GGUF. */
const folders = readdirSync(GOLDEN, { recursive: true, withFileTypes: true })
  .filter(({ name }) => /^(model\.safetensors(\.index\.json)?|.*\.gguf)$/.test(name))
  .map(({ parentPath, name }) => (name.endsWith('.gguf') ? join(parentPath, name) : parentPath))
  .filter((path) => /tiny-/.test(path) && (path.endsWith('.gguf') || existsSync(join(path, 'config.json'))));

describe('golden checkpoints as picked files', () => {
  test.each(folders.map((path) => path.slice(GOLDEN.length)))('%s', async (name) => {
    const path = join(GOLDEN, name);
    const source = name.endsWith('.gguf') ? new Blob([readFileSync(path)]) : picked(path);
    const expected = await logitsOf(path).catch((error: Error) => error.constructor.name);
    const got = await logitsOf(source).catch((error: Error) => error.constructor.name);
    expect(got).toEqual(expected);
  });
});

describe('a Hugging Face folder', () => {
  test('picked: with its tokenizer', async () => {
    const model = await loadModel(picked(DEMO));
    const own = await loadModel(DEMO);
    expect(model.tokenizer?.encode('Call me Ishmael')).toEqual(own.tokenizer?.encode('Call me Ishmael'));
    expect(await logitsOf(picked(DEMO))).toEqual(await logitsOf(DEMO));
    model.dispose();
    own.dispose();
  });

  test('picked without paths, as dropped files have them', async () => {
    const files = picked(DEMO).map((file) =>
      Object.defineProperty(file, 'webkitRelativePath', { value: '' }),
    );
    expect(await logitsOf(files)).toEqual(await logitsOf(DEMO));
  });

  test('a directory handle: loaded, converted, trained, saved', async () => {
    const handle = await handleOf(DEMO);
    expect(await logitsOf(handle)).toEqual(await logitsOf(DEMO));
    const out = new FakeDirectory('out');
    const inside = convertCheckpoint({
      from: handle,
      to: { folder: handle, file: 'mqa' },
      numKeyValueHeads: 1,
    });
    await expect(inside).rejects.toThrow('expected a place outside of the checkpoint that is read');
    await convertCheckpoint({ from: handle, to: { folder: out, file: 'mqa' }, numKeyValueHeads: 1 });
    const one = await out.getDirectoryHandle('mqa');
    const text = 'Call me Ishmael. Some years ago, never mind how long. '.repeat(60);
    const run = await uptrain({
      from: one,
      out: new FakeDirectory('run'),
      text,
      steps: 1,
      batchSize: 1,
      blockLength: 32,
    });
    await saveModel({ folder: out, file: 'saved' }, run.model);
    const model = await loadModel(await out.getDirectoryHandle('saved'));
    expect(Array.from(model.forward(prompt).dataSync())).toEqual(
      Array.from(run.model.forward(prompt).dataSync()),
    );
    model.dispose();
    run.model.dispose();
  }, 60_000);

  test('trained from picked files, saved in memory', async () => {
    const model = await loadTrainableModel(picked(DEMO));
    const folder = new MemoryFolder('out');
    await saveModel(folder, model);
    expect(await logitsOf(folder)).toEqual(Array.from(model.forward(prompt).dataSync()));
    model.dispose();
  });

  test('converted from picked files', async () => {
    const folder = new MemoryFolder('out');
    const to = { folder, file: 'mqa' };
    const { files } = await convertCheckpoint({ from: picked(DEMO), to, numKeyValueHeads: 1 });
    const onDisk = { folder, file: 'same' };
    await convertCheckpoint({ from: DEMO, to: onDisk, numKeyValueHeads: 1 });
    expect(files).toContain('model.safetensors');
    expect(await logitsOf(folder.folder('mqa'))).toEqual(await logitsOf(folder.folder('same')));
  });
});

describe('tensors', () => {
  test('loadTensorAsync gives what loadTensor gives from a path; loadTensor says to use it', async () => {
    await using blob = await openCheckpoint(new Blob([gguf]));
    await using path = await openCheckpoint(ggufPath);
    for (const options of [{}, { dtype: 'f32' }, { rows: [1, 3] }] as const) {
      const [got, expected] = [
        await loadTensorAsync(blob, 'token_embd.weight', options),
        loadTensor(path, 'token_embd.weight', options),
      ];
      expect([got.shape, got.dataSync()]).toEqual([expected.shape, expected.dataSync()]);
    }
    expect(() => loadTensor(blob, 'token_embd.weight')).toThrow(
      'blob: expected a file with a path or in memory, got one that is read asynchronously; use loadTensorAsync',
    );
    await expect(loadTensorAsync(blob, 'token_embd.weight', { rows: [0, 9e9] })).rejects.toThrow(RangeError);
  });

  test('a model that fails to load leaves no memory in use', async () => {
    const backend = open('reference') as unknown as { bytesInUse: number };
    const before = backend.bytesInUse;
    const model = await loadModel(new Blob([gguf]), { backend: 'reference' });
    model.dispose();
    expect(backend.bytesInUse).toBe(before);
    const controller = new AbortController();
    const onProgress = () => controller.abort(new Error('enough'));
    await expect(
      loadModel(new Blob([gguf]), { backend: 'reference', signal: controller.signal, onProgress }),
    ).rejects.toThrow('enough');
    expect(backend.bytesInUse).toBe(before);
  });
});

describe('what is no model', () => {
  const file = (name: string, content: string | Uint8Array<ArrayBuffer> = '') => new File([content], name);
  test.each<[string, () => ModelSource, RegExp | ErrorConstructor | typeof RangeError]>([
    ['an empty Blob', () => new Blob([]), /^blob: at byte 0: expected a \.gguf file.* \(it is empty\)$/],
    [
      'an empty list',
      () => [],
      /^loadModel: expected a path, an address, Files, a Blob, a folder, a handle or bytes, got an empty list of files$/,
    ],
    ['a list of texts', () => ['a'] as never, /^loadModel: expected a list of Files, got string in it$/],
    [
      'a list with a hole',
      () => [undefined] as never,
      /^loadModel: expected a list of Files, got undefined in it$/,
    ],
    [
      'a detached buffer',
      () => {
        const { buffer } = new Uint8Array(gguf);
        structuredClone(buffer, { transfer: [buffer] });
        return buffer;
      },
      /^loadModel: expected bytes, got a detached ArrayBuffer$/,
    ],
    [
      'a handle without a File',
      () => ({ getFile: () => 5 }) as never,
      /^loadModel: expected getFile\(\).*got 5$/,
    ],
    [
      'no such file: address',
      () => new URL('file:///nowhere.gguf'),
      /^file:\/\/\/nowhere\.gguf: .*got nothing there$/,
    ],
    [
      'a file: address of no path',
      () => new URL('file:///%E0%A4'),
      /^loadModel: expected the address of a file on/,
    ],
    [
      'a file of another host',
      () => new URL('file://host/x'),
      /^loadModel: expected the address of a file on/,
    ],
    [
      'two files of one name',
      () => [file('a.gguf'), file('a.gguf')],
      /^a\.gguf: expected one file of this name/,
    ],
    [
      'two models',
      () => [file('a.gguf', gguf), file('b.gguf', gguf)],
      /^files: expected one \.gguf file, got 2/,
    ],
    [
      'a page',
      () => file('x.gguf', '<!doctype html><p>'),
      /^x\.gguf: at byte 0: expected a model, got an HTML page/,
    ],
    ['a cut file', () => file('x.gguf', gguf.slice(0, 999)), /^x\.gguf: at byte \d+: expected/],
    [
      'a number',
      () => 5 as never,
      /^loadModel: expected a path, an address, Files, a Blob, a folder, a handle or bytes, got 5$/,
    ],
    [
      'null',
      () => null as never,
      /^loadModel: expected a path, an address, Files, a Blob, a folder, a handle or bytes, got null$/,
    ],
    [
      'another address',
      () => new URL('ftp://h/x.gguf'),
      /expected an http\(s\): or file: address, got ftp:$/,
    ],
    ['another address as text', () => 'ftp://h/x.gguf', /expected an http\(s\): or file: address, got ftp:$/],
    ['a wrong address', () => 'http://[', /^loadModel: expected an address, got "http:/],
    ['a path out of the folder', () => ({ folder: new MemoryFolder('m'), file: '../x' }), /plain name/],
    [
      'no such path',
      () => '/nowhere/x.gguf',
      /^\/nowhere\/x\.gguf: expected a \.gguf file.*got nothing there$/,
    ],
  ])('%s', async (_, source, message) => {
    await expect(loadModel(source())).rejects.toThrow(message as RegExp);
  });
});
