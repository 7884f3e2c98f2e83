/**
 * Small tokenizers with known ids (made by `fixtures/make.py`), and the real model's where its file is
 * present.
 */
import { existsSync, readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type GgufValue, readGgufHeader } from '../../src/format/gguf.ts';

const folder = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** Where real models are looked for: `GQA_MODELS`, else `../shared/models` beside the repository. */
export const modelFile: string = join(
  process.env.GQA_MODELS ?? folder('../../../shared/models'),
  'SmolLM2-135M-Instruct.Q4_1.gguf',
);

/** Why tests on the real model are left out, undefined when they are not. */
export const noModel: string | undefined = existsSync(modelFile)
  ? undefined
  : `no model file at ${modelFile}`;

/** The header's key/value pairs of the real model. */
export async function modelMetadata(): Promise<ReadonlyMap<string, GgufValue>> {
  const file = await open(modelFile);
  try {
    const { size } = await file.stat();
    const read = async (offset: number, length: number): Promise<Uint8Array> => {
      const bytes = new Uint8Array(length);
      await file.read(bytes, 0, length, offset);
      return bytes;
    };
    return (await readGgufHeader({ name: modelFile, size, read })).metadata;
  } finally {
    await file.close();
  }
}

export interface SentencePieceCase {
  readonly text: string;
  readonly ids: readonly number[];
  readonly decoded: string;
}

export interface ByteLevelCase {
  readonly text: string;
  /** By the name in `tokenizer.ggml.pre`. */
  readonly ids: Readonly<Record<string, readonly number[]>>;
}

export type Metadata = Map<string, GgufValue>;

/** A GGUF header's metadata with the trained SentencePiece vocabulary; no bos is added. */
export function sentencePieceFixture(): { metadata: Metadata; cases: SentencePieceCase[] } {
  const [, vocabulary, ...cases] = readLines('fixtures/sentencepiece.jsonl');
  const { tokens, scores, types } = vocabulary as { tokens: string[]; scores: number[]; types: number[] };
  const metadata: Metadata = new Map<string, GgufValue>([
    ['general.architecture', 'llama'],
    ['tokenizer.ggml.model', 'llama'],
    ['tokenizer.ggml.tokens', tokens],
    ['tokenizer.ggml.scores', Float32Array.from(scores)],
    ['tokenizer.ggml.token_type', Int32Array.from(types)],
    ['tokenizer.ggml.add_bos_token', false],
  ]);
  return { metadata, cases: cases as SentencePieceCase[] };
}

/** A GGUF header's metadata with the trained byte-level vocabulary, for one way to cut words. */
export function byteLevelFixture(pre: string): { metadata: Metadata; cases: ByteLevelCase[] } {
  const [, vocabulary, ...cases] = readLines('fixtures/byte-level.jsonl');
  const { tokens, merges } = vocabulary as { tokens: string[]; merges: string[] };
  const metadata: Metadata = new Map<string, GgufValue>([
    ['general.architecture', 'llama'],
    ['tokenizer.ggml.model', 'gpt2'],
    ['tokenizer.ggml.pre', pre],
    ['tokenizer.ggml.tokens', tokens],
    ['tokenizer.ggml.merges', merges],
    ['tokenizer.ggml.token_type', new Int32Array(tokens.length).fill(1)],
    ['tokenizer.ggml.add_bos_token', false],
  ]);
  return { metadata, cases: cases as ByteLevelCase[] };
}

function readLines(path: string): unknown[] {
  const lines = readFileSync(folder(path), 'utf8').trimEnd().split('\n');
  return lines.map((line) => JSON.parse(line) as unknown);
}
