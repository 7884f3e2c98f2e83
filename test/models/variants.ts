/**
 * The cases of test/golden/checkpoint-variants: tiny checkpoints with other config keys or other stored
 * weights.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { openCheckpoint, type TensorBytes, writeSafetensors } from '../../src/checkpoint/index.ts';
import { copyTiny, type Json } from './checkpoints.ts';
import { GOLDEN } from './golden.ts';

export interface Case {
  readonly name: string;
  readonly base: string;
  readonly keys: Json;
  readonly stored?: 'rolled' | 'head only' | 'both' | 'base';
  /** Of `base`: what transformers saved. */
  readonly names?: readonly string[];
  /** Of dynamic scaling: how far transformers' decoding with a cache is from its whole passes. */
  readonly cachedDifference?: number;
}

const golden = JSON.parse(readFileSync(join(GOLDEN, 'checkpoint-variants/golden.json'), 'utf8')) as {
  readonly places: readonly number[];
  readonly cases: readonly Case[];
};

export const places: readonly number[] = golden.places;
export const cases: readonly Case[] = golden.cases;

export function caseNamed(name: string): Case {
  return cases.find((one) => one.name === name) as Case;
}

const embeddingOf = (base: string) =>
  ({ 'tiny-gpt2/prefix': 'transformer.wte', 'tiny-falcon/7b': 'transformer.word_embeddings' })[base] ??
  'model.embed_tokens';

/** A folder with the case's keys and its way of storing. */
export async function variant({ base, keys, stored, names }: Case): Promise<string> {
  const folder = copyTiny(base, keys);
  if (stored === undefined) return folder;
  await using checkpoint = await openCheckpoint(folder);
  const table = `${embeddingOf(base)}.weight`;
  const tensors: Record<string, TensorBytes> = {};
  for (const [name, { dtype, shape }] of checkpoint.tensors) {
    const own = stored === 'base' ? names?.find((one) => one === name || name.endsWith(`.${one}`)) : name;
    if (own === undefined) continue;
    tensors[own] = { dtype, shape, data: await checkpoint.readBytes(name) };
  }
  if (stored !== 'base') {
    const { dtype, shape, data } = tensors[table];
    const bytes = data as Uint8Array;
    const row = bytes.length / shape[0];
    const rolled = new Uint8Array([...bytes.slice(-row), ...bytes.slice(0, -row)]);
    tensors['lm_head.weight'] = { dtype, shape, data: stored === 'rolled' ? rolled : bytes };
    if (stored === 'head only') delete tensors[table];
  } else if (Object.keys(tensors).length !== names?.length) throw new Error(`${base}: other names`);
  await writeSafetensors(join(folder, 'model.safetensors'), tensors);
  return folder;
}
