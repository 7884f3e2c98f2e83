/** Converted checkpoints of a test, in a folder that is removed after it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Checkpoint, openCheckpoint } from '../../src/checkpoint/index.ts';
import type { ModelSource } from '../../src/files/source.ts';
import { loadModel } from '../../src/models/index.ts';
import { GOLDEN } from '../models/golden.ts';

const made: string[] = [];

/** A path in a fresh folder, where nothing is yet. */
export function freshPath(name: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'gqa-convert-'));
  made.push(folder);
  return join(folder, name);
}

export function removeFolders(): void {
  for (const folder of made.splice(0)) rmSync(folder, { recursive: true, force: true });
}

export const FAMILIES: readonly string[] = [
  ...[
    'llama',
    'mistral',
    'qwen2',
    'qwen3',
    'phi3',
    'gpt2',
    'gpt_oss',
    'gemma2',
    'gemma3',
    'gemma3_images',
    'starcoder2',
  ],
  ...['falcon_40b', 'falcon_rw', 'gpt_bigcode'],
  ...['olmo2', 'olmo', 'mixtral', 'granite', 'phi', 'stablelm', 'cohere2', 'nanochat'],
  ...['smollm3', 'qwen3_moe', 'olmo3', 'gemma', 'glm4', 'ernie4_5', 'exaone4', 'ministral3'],
  ...['hunyuan_v1_dense', 'seed_oss', 'arcee', 'apertus', 'llama4_text'],
];

/** A multi-head model with N = 6 of `test/golden/convert`. */
export function multiHead(family: string): string {
  return join(GOLDEN, 'convert', family);
}

/** Logits `[T, V]` of one row, by the reference backend. */
export async function logitsOf(path: string, tokens: readonly number[]): Promise<Float32Array> {
  const model = await loadModel(path, { backend: 'reference' });
  try {
    const logits = model.forward([[...tokens]]);
    return logits.dataSync() as Float32Array;
  } finally {
    model.dispose();
  }
}

/** Name, type, shape and bytes of every tensor. */
export async function contentOf(from: ModelSource): Promise<Map<string, string>> {
  const checkpoint: Checkpoint = await openCheckpoint(from);
  try {
    const out = new Map<string, string>();
    for (const { name, dtype, shape } of checkpoint.tensors.values()) {
      const bytes = await checkpoint.readBytes(name);
      out.set(name, `${dtype} ${shape.join('x')} ${Buffer.from(bytes).toString('base64')}`);
    }
    return out;
  } finally {
    await checkpoint.close();
  }
}
