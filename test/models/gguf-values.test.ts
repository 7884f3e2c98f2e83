/**
 * GGUF metadata that llama.cpp accepts: keys of 0 that count as absent, and unused strings that are not
 * UTF-8.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
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
import { removeCheckpoints, tinyGguf } from './checkpoints.ts';
import { expectClose, GOLDEN } from './golden.ts';

const folder = mkdtempSync(join(tmpdir(), 'gqa-values-'));
afterAll(() => {
  rmSync(folder, { recursive: true });
  removeCheckpoints();
});

let files = 0;
/** The file with metadata keys added, replaced or (undefined) removed. */
async function changed(path: string, pairs: Readonly<Record<string, GgufPair | undefined>>): Promise<string> {
  await using checkpoint = await openCheckpoint(path);
  const { metadata, metadataTypes } = checkpoint.gguf!;
  const all = new Map([...metadata].map(([key, value]) => [key, { type: metadataTypes.get(key)!, value }]));
  for (const [key, pair] of Object.entries(pairs)) {
    if (pair === undefined) all.delete(key);
    else all.set(key, pair);
  }
  const tensors = new Map<string, TensorBytes>();
  for (const { name, dtype, shape } of checkpoint.tensors.values()) {
    tensors.set(name, { dtype, shape, data: await checkpoint.readBytes(name) });
  }
  const to = join(folder, `${files++}.gguf`);
  await writeGguf(to, all, tensors);
  return to;
}

async function logitsOf(path: string): Promise<Float32Array> {
  const model = await loadModel(path, { backend: 'reference' });
  const logits = model.forward([[3, 9, 4, 11, 5, 20, 8, 30]]).dataSync();
  model.dispose();
  return logits as Float32Array;
}

const u32 = (value: number): GgufPair => ({ type: 'u32', value });
const f32 = (value: number): GgufPair => ({ type: 'f32', value });
const text = (value: string): GgufPair => ({ type: 'string', value });
const [LLAMA, DEEPSEEK, GEMMA] = ['llama', 'tiny-deepseek/v2-lite.gguf', 'tiny-gemma3/plain.gguf'];
const pathOf = (name: string) => (name === LLAMA ? tinyGguf('gqa-tied') : join(GOLDEN, name));

test.each<[string, string, Record<string, GgufPair>]>([
  ['no experts', LLAMA, { 'llama.expert_count': u32(0), 'llama.expert_used_count': u32(0) }],
  ['a scaling factor of 0', LLAMA, { 'llama.rope.scaling.factor': f32(0) }],
  [
    'a factor of 0 of a type',
    LLAMA,
    { 'llama.rope.scaling.type': text('linear'), 'llama.rope.scaling.factor': f32(0) },
  ],
  ['the old factor of 0', LLAMA, { 'llama.rope.scale_linear': f32(0) }],
  [
    'a factor of the type none',
    LLAMA,
    { 'llama.rope.scaling.type': text('none'), 'llama.rope.scaling.factor': f32(4) },
  ],
  ['a window of 0', LLAMA, { 'llama.attention.sliding_window': u32(0) }],
  [
    'latents of 0',
    LLAMA,
    { 'llama.attention.kv_lora_rank': u32(0), 'llama.attention.key_length_mla': u32(0) },
  ],
  ['no latent of queries', DEEPSEEK, { 'deepseek2.attention.q_lora_rank': u32(0) }],
  [
    'no groups of experts',
    DEEPSEEK,
    { 'deepseek2.expert_group_count': u32(0), 'deepseek2.expert_group_used_count': u32(0) },
  ],
  ['the first gating', DEEPSEEK, { 'deepseek2.expert_gating_func': u32(0) }],
  ['weights without a scale', DEEPSEEK, { 'deepseek2.expert_weights_scale': f32(0) }],
  ['no cap', GEMMA, { 'gemma3.final_logit_softcapping': f32(0) }],
])('%s', async (_, name, pairs) => {
  const path = await pathOf(name);
  const to = await changed(path, pairs);
  expect(await logitsOf(to)).toEqual(await logitsOf(path));
  expect((await readModelShape(to)).layers).toEqual((await readModelShape(path)).layers);
});

test('YaRN without an original length, or one of 0, counts from the context', async () => {
  const path = await tinyGguf('gqa-tied');
  const yarn = { 'llama.rope.scaling.type': text('yarn'), 'llama.rope.scaling.factor': f32(4) };
  const stated = await logitsOf(
    await changed(path, { ...yarn, 'llama.rope.scaling.original_context_length': u32(256) }),
  );
  expectClose(await logitsOf(await changed(path, yarn)), stated, 0);
  const zero = { 'llama.rope.scaling.original_context_length': u32(0) };
  expectClose(await logitsOf(await changed(path, { ...yarn, ...zero })), stated, 0);
  expect(stated).not.toEqual(await logitsOf(path));
});

const BYTES = Uint8Array.of(0x61, 0xff, 0xfe, 0x62);

test('texts that are not UTF-8 and that nobody needs are kept byte for byte', async () => {
  const path = await tinyGguf('gqa-tied');
  const odd = await changed(path, {
    'general.description': { type: 'string', value: BYTES },
    'general.tags': { type: '[string]', value: ['a', BYTES] },
  });
  expect(await logitsOf(odd)).toEqual(await logitsOf(path));
  await readModelShape(odd);
  const to = join(folder, 'converted.gguf');
  await convertCheckpoint({ from: odd, to, numKeyValueHeads: 1 });
  for (const one of [odd, to]) {
    await using checkpoint = await openCheckpoint(one);
    const { metadata, metadataTypes } = checkpoint.gguf!;
    expect(metadata.get('general.description')).toEqual(BYTES);
    expect(metadata.get('general.tags')).toEqual(['a', BYTES]);
    expect(metadataTypes.get('general.description')).toBe('string');
  }
});

test('where a text is needed its key is named', async () => {
  const path = await tinyGguf('gqa-tied');
  const noArchitecture = await changed(path, { 'general.architecture': { type: 'string', value: BYTES } });
  const failing = loadModel(noArchitecture);
  await expect(failing).rejects.toThrow(FormatError);
  await expect(failing).rejects.toThrow(/general\.architecture: expected a supported one .*, got an array$/);
  const noScaling = await changed(path, { 'llama.rope.scaling.type': { type: 'string', value: BYTES } });
  await expect(loadModel(noScaling)).rejects.toThrow(/rope\.scaling\.type: expected none, linear or yarn/);
  const tokens = await changed(path, {
    'tokenizer.ggml.model': text('gpt2'),
    'tokenizer.ggml.tokens': { type: '[string]', value: ['a', BYTES] },
  });
  const model = await loadModel(tokens);
  expect(() => model.tokenizer).toThrow(/tokenizer\.ggml\.tokens to be an array of strings/);
  model.dispose();
});
