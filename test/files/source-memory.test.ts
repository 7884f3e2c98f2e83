/** A model from bytes in memory keeps what saving needs, and not the bytes of its weights. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { MemoryFolder, type ModelSource } from '../../src/checkpoint/index.ts';
import { convertCheckpoint } from '../../src/convert/index.ts';
import { setBackend } from '../../src/index.ts';
import { loadModel, saveModel } from '../../src/models/index.ts';
import { copyTiny, removeCheckpoints, tokenizerJson } from '../models/checkpoints.ts';

const DEMO = fileURLToPath(new URL('../../demo/model/', import.meta.url));

beforeAll(() => setBackend('native').catch(() => setBackend('wasm')));
afterAll(removeCheckpoints);

async function isCollected(bytes: WeakRef<ArrayBuffer>): Promise<boolean> {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  for (let i = 0; i < 100; i++) {
    collect();
    await setTimeout(5);
    if (bytes.deref() === undefined) return true;
    // Until the next turn of the event loop, deref() keeps the bytes.
    await setTimeout(5);
  }
  return false;
}

interface Source {
  readonly source: ModelSource;
  readonly weights: WeakRef<ArrayBuffer>;
}

async function ggufSource(): Promise<Source> {
  const letters = Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i));
  const tokenizer = tokenizerJson([...letters, '\u0120', '\u010a', '\u0109']);
  const from = copyTiny('gqa-tied', {}, { 'tokenizer.json': tokenizer });
  const folder = new MemoryFolder('out');
  await convertCheckpoint({ from, to: { folder, file: 'm.gguf' }, numKeyValueHeads: 2 });
  const file = await folder.open('m.gguf');
  const bytes = new Uint8Array(file?.bytes as Uint8Array);
  return { source: bytes, weights: new WeakRef(bytes.buffer) };
}

async function folderSource(): Promise<Source> {
  const names = readdirSync(DEMO);
  const files = Object.fromEntries(
    names.map((name) => [name, new Uint8Array(readFileSync(join(DEMO, name)))]),
  );
  const weights = new WeakRef(files['model.safetensors'].buffer);
  return { source: new MemoryFolder('m', files), weights };
}

test.each([
  ['a GGUF file as bytes', ggufSource],
  ['a Hugging Face folder in memory', folderSource],
])('%s', async (_, make) => {
  const load = async () => {
    const { source, weights } = await make();
    return { model: await loadModel(source), weights };
  };
  const { model, weights } = await load();
  expect(await isCollected(weights)).toBe(true);
  const text = 'Call me Ishmael';
  const tokens = model.tokenizer?.encode(text) ?? [];
  expect(tokens.length).toBeGreaterThan(2);

  const saved = new MemoryFolder('saved');
  await saveModel(saved, model);
  const again = await loadModel(saved);
  expect(again.tokenizer?.encode(text)).toEqual(tokens);
  const [got, expected] = [again, model].map((one) => Array.from(one.forward([tokens]).dataSync()));
  got.forEach((logit, i) => void expect(logit).toBeCloseTo(expected[i], 4));
  model.dispose();
  again.dispose();
});
