/** The checkpoints and reference logits of test/golden, and the backends of this machine. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import type { BackendName } from '../../src/backend/backend.ts';
import { open } from '../../src/backend/registry.ts';
import { type Checkpoint, loadTensor, openCheckpoint } from '../../src/checkpoint/index.ts';
import { type GenerateOptions, generate, loadModel, type Model } from '../../src/models/index.ts';
import { backends, skipped } from '../ops/backends.ts';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');

export const GOLDEN: string = join(root, 'test/golden');
export const TINY: readonly string[] = [
  'mha',
  'gqa-tied',
  'mqa',
  'llama3-rope',
  'head-dim',
  'sharded',
  'bias',
  'bf16',
  'f16',
];

/** Backends that run here. */
export const BACKENDS: readonly BackendName[] = backends.map((backend) => backend.name);
for (const { name, reason } of skipped) console.warn(`skipping the ${name} backend: ${reason}`);

const folder = process.env.GQA_MODELS ?? join(root, '../shared/models');
const file = join(folder, 'SmolLM2-135M-Instruct.Q4_1.gguf');

/** The real model's file, undefined where it is not. */
export const SMOLLM2: string | undefined = existsSync(file) ? file : undefined;
if (!SMOLLM2) console.warn(`skipping SmolLM2: no ${file} (GQA_MODELS names its folder)`);

/** A golden.safetensors, read through the reference backend. */
export class Golden {
  readonly #checkpoint: Checkpoint;

  private constructor(checkpoint: Checkpoint) {
    this.#checkpoint = checkpoint;
  }

  static async open(name: string): Promise<Golden> {
    return new Golden(await openCheckpoint(join(GOLDEN, name, 'golden.safetensors')));
  }

  floats(name: string): Float32Array {
    return this.#read(name) as Float32Array;
  }

  /** A row of token ids. */
  ids(name: string): number[] {
    return Array.from(this.#read(name));
  }

  /** `[B, T]` token ids as rows. */
  rows(name: string): number[][] {
    const flat = this.ids(name);
    const [B, T] = this.#checkpoint.tensor(name).shape;
    return Array.from({ length: B }, (_, row) => flat.slice(row * T, (row + 1) * T));
  }

  #read(name: string): ArrayLike<number> {
    const tensor = loadTensor(this.#checkpoint, name, { backend: open('reference') });
    try {
      return tensor.dataSync();
    } finally {
      tensor.dispose();
    }
  }
}

/** A tiny checkpoint on a backend; `tiny-llama/<name>`. */
export function loadTiny(name: string, backend: BackendName): Promise<Model> {
  return loadModel(join(GOLDEN, 'tiny-llama', name), { backend });
}

/** max |error| <= tolerance * max(1, max |want|) */
export function expectClose(
  got: ArrayLike<number>,
  want: ArrayLike<number>,
  tolerance: number,
  what: string = '',
): void {
  expect(got.length, what).toBe(want.length);
  let error = 0;
  let scale = 1;
  let at = -1;
  for (let i = 0; i < want.length; i++) {
    scale = Math.max(scale, Math.abs(want[i]));
    const difference = Math.abs(got[i] - want[i]);
    if (difference > error || Number.isNaN(difference)) {
      error = difference;
      at = i;
      if (Number.isNaN(difference)) break;
    }
  }
  if (error <= tolerance * scale) return;
  expect.fail(
    `${what}: at ${at} got ${got[at]}, want ${want[at]}; error ${error}, allowed ${tolerance * scale}`,
  );
}

export async function collect(
  model: Model,
  prompt: readonly number[],
  options: GenerateOptions = {},
): Promise<number[]> {
  const tokens: number[] = [];
  for await (const token of generate(model, prompt, options)) tokens.push(token);
  return tokens;
}
