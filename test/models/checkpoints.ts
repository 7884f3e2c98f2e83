/**
 * Variants of the tiny checkpoints for a test: another config, a tokenizer beside it, or the same weights as
 * GGUF.
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openCheckpoint } from '../../src/checkpoint/index.ts';
import { buildGguf, type GgufTensorSpec, type Pair, stringPair, u32Pair } from '../format/build-files.ts';
import { GOLDEN } from './golden.ts';

const made: string[] = [];

/** Removes what was made; call it after all tests. */
export function removeCheckpoints(): void {
  for (const path of made.splice(0)) rmSync(path, { recursive: true, force: true });
}

export type Json = Record<string, unknown>;

/**
 * A copy of `tiny-llama/<name>` (or of `<folder>/<name>`) with config keys replaced and files added. Returns
 * its folder.
 */
export function copyTiny(name: string, config: Json = {}, files: Record<string, string> = {}): string {
  const folder = mkdtempSync(join(tmpdir(), 'gqa-model-'));
  made.push(folder);
  cpSync(join(GOLDEN, name.includes('/') ? name : join('tiny-llama', name)), folder, { recursive: true });
  const before = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as Json;
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...before, ...config }));
  for (const [file, text] of Object.entries(files)) writeFileSync(join(folder, file), text);
  return folder;
}

/** A byte-level tokenizer.json of 97 tokens, each one of the given texts (ASCII, space as Ġ). */
export function tokenizerJson(texts: readonly string[]): string {
  const vocab = Object.fromEntries(texts.map((text, id) => [text, id]));
  return JSON.stringify({
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: { type: 'BPE', dropout: null, unk_token: null, fuse_unk: false, vocab, merges: [] },
  });
}

const LAYER_NAMES: readonly (readonly [string, string])[] = [
  ['self_attn.q_proj', 'attn_q'],
  ['self_attn.k_proj', 'attn_k'],
  ['self_attn.v_proj', 'attn_v'],
  ['self_attn.o_proj', 'attn_output'],
  ['mlp.gate_proj', 'ffn_gate'],
  ['mlp.up_proj', 'ffn_up'],
  ['mlp.down_proj', 'ffn_down'],
  ['input_layernorm', 'attn_norm'],
  ['post_attention_layernorm', 'ffn_norm'],
];

function ggufName(name: string): string {
  const outer: Record<string, string> = {
    'model.embed_tokens': 'token_embd',
    'model.norm': 'output_norm',
    lm_head: 'output',
  };
  const [, base, kind] = /^(.*)\.(weight|bias)$/.exec(name)!;
  const layer = /^model\.layers\.(\d+)\.(.*)$/.exec(base);
  if (!layer) return `${outer[base]}.${kind}`;
  return `blk.${layer[1]}.${LAYER_NAMES.find(([from]) => from === layer[2])![1]}.${kind}`;
}

/** Rows (i, i + H/2) of each head put next to each other: what llama.cpp's converter does to q and k. */
function permuteRows(bytes: Uint8Array, rows: number, heads: number): Uint8Array {
  const out = new Uint8Array(bytes.length);
  const rowBytes = bytes.length / rows;
  const H = rows / heads;
  for (let head = 0; head < heads; head++) {
    for (let i = 0; i < H; i++) {
      const from = head * H + (i % 2) * (H / 2) + Math.floor(i / 2);
      out.set(bytes.subarray(from * rowBytes, (from + 1) * rowBytes), (head * H + i) * rowBytes);
    }
  }
  return out;
}

const floatPair = (key: string, value: number): Pair => [
  key,
  6,
  (w) => w.u32(new Uint32Array(Float32Array.of(value).buffer)[0]),
];

/**
 * `tiny-llama/<name>` as a `llama` GGUF, names, permutation and keys as llama.cpp's converter writes them.
 * Returns its path.
 * @param ropeFactors `rope_freqs.weight`
 */
export async function tinyGguf(
  name: string,
  options: { pairs?: Pair[]; ropeFactors?: readonly number[] } = {},
): Promise<string> {
  await using checkpoint = await openCheckpoint(join(GOLDEN, 'tiny-llama', name));
  const config = checkpoint.config as Json;
  const number = (key: string) => config[key] as number;
  const heads: Record<string, number> = {
    q_proj: number('num_attention_heads'),
    k_proj: number('num_key_value_heads'),
  };
  const tensors: GgufTensorSpec[] = [];
  const data: { offset: number; bytes: Uint8Array }[] = [];
  let offset = 0;
  const put = (tensor: string, dims: readonly number[], type: number, bytes: Uint8Array) => {
    tensors.push({ name: tensor, dims, type, offset });
    data.push({ offset, bytes });
    offset = Math.ceil((offset + bytes.length) / 32) * 32;
  };
  for (const info of checkpoint.tensors.values()) {
    const bytes = await checkpoint.readBytes(info.name);
    const projection = /\.([qk]_proj)\./.exec(info.name)?.[1];
    const stored = projection ? permuteRows(bytes, info.shape[0], heads[projection]) : bytes;
    const type = { f32: 0, f16: 1, bf16: 30 }[info.dtype as 'f32'];
    put(ggufName(info.name), [...info.shape].reverse(), type, stored);
  }
  const { ropeFactors } = options;
  if (ropeFactors)
    put('rope_freqs.weight', [ropeFactors.length], 0, new Uint8Array(Float32Array.from(ropeFactors).buffer));
  const rope = config.rope_parameters as Json;
  const pairs: Pair[] = [
    stringPair('general.architecture', 'llama'),
    u32Pair('llama.block_count', number('num_hidden_layers')),
    u32Pair('llama.context_length', number('max_position_embeddings')),
    u32Pair('llama.embedding_length', number('hidden_size')),
    u32Pair('llama.feed_forward_length', number('intermediate_size')),
    u32Pair('llama.attention.head_count', number('num_attention_heads')),
    u32Pair('llama.attention.head_count_kv', number('num_key_value_heads')),
    u32Pair('llama.attention.key_length', number('head_dim')),
    u32Pair('llama.attention.value_length', number('head_dim')),
    u32Pair('llama.rope.dimension_count', number('head_dim')),
    u32Pair('llama.vocab_size', number('vocab_size')),
    floatPair('llama.attention.layer_norm_rms_epsilon', number('rms_norm_eps')),
    floatPair('llama.rope.freq_base', rope.rope_theta as number),
    u32Pair('tokenizer.ggml.eos_token_id', 2),
    u32Pair('tokenizer.ggml.eot_token_id', 5),
    ...(options.pairs ?? []),
  ];
  const file = buildGguf({ pairs, tensors, dataBytes: offset });
  for (const piece of data) file.set(piece.bytes, file.length - offset + piece.offset);
  const folder = mkdtempSync(join(tmpdir(), 'gqa-gguf-'));
  made.push(folder);
  const path = join(folder, `${name}.gguf`);
  writeFileSync(path, file);
  return path;
}
