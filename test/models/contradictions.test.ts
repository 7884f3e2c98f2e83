/**
 * Configs that contradict themselves or their tensors: the error names the key, or the tensor and both
 * shapes. For any config or GGUF header, loading gives a model or such an error.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { FormatError } from '../../src/checkpoint/index.ts';
import { loadModel } from '../../src/models/index.ts';
import { UnsupportedError } from '../../src/tensor/errors.ts';
import { runs } from '../runs.ts';
import { copyTiny, type Json, removeCheckpoints } from './checkpoints.ts';
import { GOLDEN } from './golden.ts';

afterAll(removeCheckpoints);
const backend = 'reference';

/** What loading says, 'loaded' when it works. @throws what is not an answer about the file. */
async function answer(path: string): Promise<string> {
  try {
    (await loadModel(path, { backend })).dispose();
    return 'loaded';
  } catch (error) {
    if (!(error instanceof FormatError) && !(error instanceof UnsupportedError)) throw error;
    expect(error.message.split('\n'), error.message).toHaveLength(1);
    return error.message;
  }
}

const qkv = 'model.layers.0.self_attn';
test.each<[string, string, Json, string]>([
  [
    'more query heads than q_proj has rows for',
    'tiny-qwen2/plain',
    { num_attention_heads: 8, head_dim: 8 },
    `expected tensor ${qkv}.q_proj.weight of shape [64, 32], got [32, 32]`,
  ],
  [
    'key/value heads that are not those of k_proj',
    'tiny-mistral/window',
    { num_key_value_heads: 4 },
    `expected tensor ${qkv}.k_proj.weight of shape [48, 32], got [24, 32]`,
  ],
  [
    'key/value heads that do not divide the query heads',
    'tiny-mistral/window',
    { num_key_value_heads: 3 },
    'num_key_value_heads: expected a divisor of the query heads (num_attention_heads N=4), got K=3',
  ],
  [
    'a head dim that is not that of the q norm',
    'tiny-qwen3/window',
    { head_dim: 16, num_attention_heads: 2, num_key_value_heads: 2 },
    `expected tensor ${qkv}.q_norm.weight of shape [16], got [8]`,
  ],
  [
    'fused projections of other heads',
    'tiny-phi3/plain',
    { num_key_value_heads: 4 },
    `expected tensor ${qkv}.qkv_proj.weight of shape [96, 32], got [64, 32]`,
  ],
  [
    'a fused MLP of another width',
    'tiny-phi3/plain',
    { intermediate_size: 48 },
    'expected tensor model.layers.0.mlp.gate_up_proj.weight of shape [96, 32], got [80, 32]',
  ],
  [
    'a transposed matrix of another width',
    'tiny-gpt2/bare',
    { n_inner: 48 },
    'expected tensor h.0.mlp.c_fc.weight of shape [32, 48], got [32, 40]',
  ],
  [
    'more positions than there are rows',
    'tiny-gpt2/prefix',
    { n_positions: 64 },
    'expected tensor transformer.wpe.weight of shape [64, 32], got [48, 32]',
  ],
  [
    'another vocabulary',
    'tiny-qwen3/plain',
    { vocab_size: 64 },
    'expected tensor model.embed_tokens.weight of shape [64, 32], got [61, 32]',
  ],
  [
    'an output head that is not there',
    'tiny-qwen2/plain',
    { tie_word_embeddings: false },
    'expected tensor lm_head.weight of shape [61, 32], got none of that name',
  ],
  [
    'biases the config does not mention',
    'tiny-qwen3/window',
    { attention_bias: false },
    `expected no such bias by the config, got ${qkv}.q_proj.bias of shape [32]`,
  ],
  [
    'biases that are not there',
    'tiny-qwen3/plain',
    { attention_bias: true },
    `expected tensor ${qkv}.q_proj.bias of shape [48], got none of that name`,
  ],
  [
    'fewer layers than the file has',
    'tiny-qwen2/window',
    { num_hidden_layers: 2, layer_types: null },
    'expected 2 layers by the config, got model.layers.2.self_attn.o_proj.weight of shape [32, 32]',
  ],
  [
    'layer types for other layers',
    'tiny-qwen2/window',
    { num_hidden_layers: 4 },
    'layer_types: expected 4 names, one per layer, got 3',
  ],
  [
    'rotary factors for other dims',
    'tiny-phi3/longrope',
    {
      partial_rotary_factor: 1,
      rope_parameters: { rope_type: 'longrope', short_factor: [1], long_factor: [1] },
    },
    'short_factor: expected 8 positive numbers, got 1',
  ],
  [
    'a negative rotary factor',
    'tiny-phi3/longrope',
    {
      rope_parameters: {
        rope_type: 'longrope',
        partial_rotary_factor: 0.25,
        short_factor: [1, -2],
        long_factor: [1, 2],
      },
    },
    'short_factor: expected 2 positive numbers, got 2 with -2',
  ],
  [
    'an odd number of rotating dims',
    'tiny-phi3/plain',
    { rope_parameters: { partial_rotary_factor: 0.9 } },
    'partial_rotary_factor: expected at most 1 and an even number of H=8 dims, got 0.9',
  ],
  ...(
    [
      ['tiny-llama/mqa', { partial_rotary_factor: 0.5 }],
      ['tiny-qwen3/plain', { rope_parameters: { partial_rotary_factor: 0.5 } }],
      ['tiny-starcoder2/plain', { partial_rotary_factor: 0.5 }],
      ['tiny-falcon/7b', { partial_rotary_factor: 0.5 }],
    ] as [string, Json][]
  ).map(([model, change]): [string, string, Json, string] => [
    `a partial rotation in ${model}, which transformers passes over`,
    model,
    change,
    'partial_rotary_factor: expected 1, since transformers rotates whole heads in this family, got 0.5',
  ]),
  [
    'Gemma 2 with other query heads',
    'tiny-gemma2/plain',
    { num_attention_heads: 2 },
    `expected tensor ${qkv}.q_proj.weight of shape [24, 32], got [48, 32]`,
  ],
  [
    'Gemma 2 that calls itself Llama',
    'tiny-gemma2/plain',
    { model_type: 'llama' },
    'expected no such tensor by the config, got model.layers.0.post_feedforward_layernorm.weight of shape [32]',
  ],
  [
    'norms on q and k that the family has not',
    'tiny-qwen3/plain',
    { model_type: 'llama' },
    `expected no such tensor by the config, got ${qkv}.k_norm.weight of shape [12]`,
  ],
  [
    'Gemma 3 without its norms on q and k',
    'tiny-gemma2/plain',
    { model_type: 'gemma3_text', attn_logit_softcapping: null, rope_parameters: null },
    `expected tensor ${qkv}.q_norm.weight of shape [12], got none of that name`,
  ],
  [
    'Gemma 3 with caps on the scores',
    'tiny-gemma3/plain',
    { attn_logit_softcapping: 50 },
    'attn_logit_softcapping: expected none, as in transformers, got a value',
  ],
  [
    'Gemma 3 that looks ahead',
    'tiny-gemma3/plain',
    { use_bidirectional_attention: true },
    'use_bidirectional_attention: expected attention to earlier tokens only, got true',
  ],
  [
    'one rotation where Gemma 3 has two',
    'tiny-gemma3/plain',
    { rope_parameters: { rope_type: 'default', rope_theta: 1e6 } },
    'rope_parameters: expected full_attention and sliding_attention in it',
  ],
  [
    'a query scale of nothing',
    'tiny-gemma2/scale',
    { query_pre_attn_scalar: 0 },
    'query_pre_attn_scalar: expected a positive number, got 0',
  ],
  [
    'a head that is tied and there is none',
    'tiny-gemma3/plain',
    { tie_word_embeddings: false },
    'expected tensor lm_head.weight of shape [61, 20], got none of that name',
  ],
  [
    'the text model of a file with images of another width',
    'tiny-gemma3/images',
    { text_config: { model_type: 'gemma3_text', hidden_size: 24, head_dim: 12, vocab_size: 61 } },
    'expected tensor language_model.model.embed_tokens.weight of shape [61, 24], got [61, 20]',
  ],
  [
    'StarCoder 2 without its biases',
    'tiny-starcoder2/window',
    { use_bias: true },
    `expected tensor ${qkv}.q_proj.bias of shape [32], got none of that name`,
  ],
  [
    'StarCoder 2 of another form',
    'tiny-starcoder2/plain',
    { mlp_type: 'gated' },
    'mlp_type: expected default, got "gated"',
  ],
  [
    'Falcon with ALiBi',
    'tiny-falcon/7b',
    { alibi: true },
    'alibi: expected rotary positions (false), got true',
  ],
  [
    'Falcon with other groups',
    'tiny-falcon/40b',
    { num_kv_heads: 3 },
    'expected tensor transformer.h.0.self_attention.query_key_value.weight of shape [96, 48], got [80, 48]',
  ],
  [
    'Falcon with one norm where there are two',
    'tiny-falcon/40b',
    { num_ln_in_parallel_attn: 1 },
    'expected tensor transformer.h.0.input_layernorm.weight of shape [48], got none of that name',
  ],
  [
    'two norms in the old Falcon',
    'tiny-falcon/7b',
    { num_ln_in_parallel_attn: 2 },
    'num_ln_in_parallel_attn: expected 1 without new_decoder_architecture, got 2',
  ],
  [
    'the new Falcon with the MLP behind attention',
    'tiny-falcon/40b',
    { parallel_attn: false },
    'parallel_attn: expected true in the new decoder architecture, got false',
  ],
  [
    'a norm that parallel Falcon does not read',
    'tiny-falcon/sequential',
    { parallel_attn: true },
    'expected no such tensor by the config, got transformer.h.0.post_attention_layernorm.bias of shape [32]',
  ],
  [
    'GPTBigCode with one key for all heads where there are many',
    'tiny-gpt_bigcode/many',
    { multi_query: true },
    'expected tensor transformer.h.0.attn.c_attn.weight of shape [48, 32], got [96, 32]',
  ],
  [
    'another MLP',
    'tiny-gpt2/prefix',
    { activation_function: 'prelu' },
    'activation_function: expected one of silu, swish, gelu, gelu_python, gelu_new, gelu_fast, gelu_accurate, gelu_pytorch_tanh, gelu_python_tanh, gelu_10, quick_gelu, relu, relu2, relu6, leaky_relu, mish, hardswish, sigmoid, tanh, linear, got "prelu"',
  ],
  [
    'cross-attention',
    'tiny-gpt2/prefix',
    { add_cross_attention: true },
    'add_cross_attention: expected a decoder without cross-attention, got true',
  ],
  [
    'another number of experts',
    'tiny-gpt_oss/plain',
    { num_local_experts: 6 },
    'expected tensor model.layers.0.mlp.router.weight of shape [6, 40], got [5, 40]',
  ],
  [
    'experts of another width',
    'tiny-gpt_oss/plain',
    { intermediate_size: 32 },
    'expected tensor model.layers.0.mlp.experts.gate_up_proj of shape [5, 40, 64], got [5, 40, 48]',
  ],
  [
    'more experts for a token than there are',
    'tiny-gpt_oss/plain',
    { num_experts_per_tok: 6 },
    'num_experts_per_tok: expected at most 5, the number of experts, got 6',
  ],
  [
    'sinks of other heads',
    'tiny-gpt_oss/options',
    { num_attention_heads: 3, head_dim: 16, num_key_value_heads: 3 },
    `expected tensor ${qkv}.k_proj.weight of shape [48, 40], got [24, 40]`,
  ],
])('%s', async (_, name, config, message) => {
  const said = await answer(copyTiny(name, config));
  expect(said.slice(-message.length)).toBe(message);
  // The file, where in it, what was expected.
  expect(said.slice(0, -message.length)).toMatch(/\.(safetensors: at byte \d+|json): $|gqa-model-\w+: $/);
});

/** A checkpoint with its tensors under other names, or without those that map to nothing. */
function renamed(name: string, rename: (tensor: string) => string | undefined): string {
  const folder = copyTiny(name);
  const path = join(folder, 'model.safetensors');
  const bytes = readFileSync(path);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = Object.entries(JSON.parse(bytes.toString('utf8', 8, 8 + length)) as Json);
  const kept = header.flatMap(([tensor, entry]) => {
    const to = rename(tensor);
    return to === undefined ? [] : [[to, entry]];
  });
  const text = Buffer.from(JSON.stringify(Object.fromEntries(kept)).padEnd(length + 800, ' '));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(text.length));
  writeFileSync(path, Buffer.concat([size, text, bytes.subarray(8 + length)]));
  return folder;
}

test.each([
  [
    'sinks',
    (name: string) => name.replace('1.self_attn.sinks', '1.self_attn.sunk'),
    'expected tensor model.layers.1.self_attn.sinks of shape [6], got none of that name',
  ],
  [
    'biases of experts',
    (name: string) => name.replace('2.mlp.experts.down_proj_bias', '2.mlp.experts.other'),
    'expected tensor model.layers.2.mlp.experts.down_proj_bias of shape [5, 40], got none of that name',
  ],
  [
    'unpacked experts',
    (name: string) => name.replace(/(gate_up|down)_proj$/, '$1_proj_blocks'),
    'quantization_config: expected experts in bf16, f16 or f32, got MXFP4 blocks, which are read from GGUF only: use a GGUF file of the model, or load it in transformers with Mxfp4Config(dequantize=True) and save it',
  ],
])('gpt-oss without %s', async (_, rename, message) => {
  expect((await answer(renamed('tiny-gpt_oss/plain', rename))).slice(-message.length)).toBe(message);
});

const FAMILIES = [
  'tiny-llama/bias',
  'tiny-mistral/window',
  'tiny-qwen2/window',
  'tiny-qwen3/window',
  'tiny-phi3/longrope',
  'tiny-gpt2/prefix',
  'tiny-gpt_oss/plain',
  'tiny-gemma2/plain',
  'tiny-gemma3/plain',
  'tiny-starcoder2/plain',
  'tiny-falcon/40b',
  'tiny-gpt_bigcode/many',
];
const STRANGE: readonly unknown[] = [
  undefined,
  null,
  true,
  false,
  0,
  -1,
  0.5,
  3,
  1e9,
  2 ** 53,
  1e308,
  '',
  '8',
  'default',
  [],
  [1],
  [-1, 2],
  {},
  { rope_type: 'longrope' },
  { type: 3 },
];

const configs = new Map(
  FAMILIES.map((name) => [name, JSON.parse(readFileSync(join(GOLDEN, name, 'config.json'), 'utf8')) as Json]),
);
/** Keys that are tried in every family, whether its config has them or not. */
const EVERYWHERE = [
  'head_dim',
  'rope_scaling',
  'layer_types',
  'sliding_window',
  'partial_rotary_factor',
  'text_config',
];

/**
 * A key of several families gets each value in one of them at least, and in each family a third of the values: the
 * families read such keys by the same functions. A key of one family gets all values.
 */
function strangeValues(key: string, family: string): readonly unknown[] {
  const holders = EVERYWHERE.includes(key) ? FAMILIES : FAMILIES.filter((name) => key in configs.get(name)!);
  const share = Math.min(holders.length, runs(3, 1));
  return STRANGE.filter((_, index) => (index + holders.indexOf(family)) % share === 0);
}

describe('every key of config.json with strange values', () => {
  test.each(FAMILIES)('%s', async (name) => {
    const folder = copyTiny(name);
    const path = join(folder, 'config.json');
    const config = configs.get(name)!;
    let refused = 0;
    const check = async (changed: Json) => {
      writeFileSync(path, JSON.stringify(changed));
      if ((await answer(folder)) !== 'loaded') refused++;
    };
    for (const key of new Set([...Object.keys(config), ...EVERYWHERE])) {
      for (const value of strangeValues(key, name)) await check({ ...config, [key]: value });
    }
    const rope = (config.rope_parameters ?? {}) as Json;
    for (const key of Object.keys(rope)) {
      for (const value of STRANGE) await check({ ...config, rope_parameters: { ...rope, [key]: value } });
    }
    expect(refused).toBeGreaterThan(50);
  });

  test.each(['null', '[]', '"text"', '3', '{', ''])('a config.json of %s', async (text) => {
    const folder = copyTiny('tiny-qwen2/plain');
    writeFileSync(join(folder, 'config.json'), text);
    expect(await answer(folder)).not.toBe('loaded');
  });
});

test('mutated indices of sharded files', async () => {
  const folder = copyTiny('sharded');
  const path = join(folder, 'model.safetensors.index.json');
  const text = readFileSync(path, 'utf8');
  const edit = fc.record({
    at: fc.nat(text.length),
    drop: fc.constantFrom(0, 1, 2, 9),
    put: fc.constantFrom('', '0', '"', '{', ']', 'a', '../', '00009', ',', ' ', '\\u0000'),
  });
  const counts = { loaded: 0, refused: 0 };
  await fc.assert(
    fc.asyncProperty(edit, async ({ at, drop, put }) => {
      writeFileSync(path, text.slice(0, at) + put + text.slice(at + drop));
      counts[(await answer(folder)) === 'loaded' ? 'loaded' : 'refused']++;
    }),
    { numRuns: runs(100, 300), seed: 4 },
  );
  expect(Math.min(counts.loaded, counts.refused)).toBeGreaterThan(5);
});

describe('mutated GGUF headers of whole models', () => {
  test.each([
    ...['tiny-qwen3/plain.gguf', 'tiny-phi3/longrope.gguf', 'tiny-gpt2/prefix.gguf'],
    ...['tiny-gemma3/plain.gguf', 'tiny-falcon/40b.gguf', 'tiny-gpt_oss/plain.gguf'],
    'tiny-deepseek/v3.gguf',
  ])('%s', async (name) => {
    const bytes = readFileSync(join(GOLDEN, name));
    const path = join(copyTiny('tiny-qwen2/plain'), 'mutated.gguf');
    // The vocabulary is most of the header; the keys before it and the tensors behind it are what a model is
    // made of.
    const vocabulary = bytes.indexOf('tokenizer.ggml.model');
    const tensors = bytes.indexOf('token_embd.weight') - 8;
    const at = fc.oneof(fc.nat(vocabulary), fc.integer({ min: tensors, max: tensors + 1200 }));
    const edit = fc.record({ at, value: fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 2, 12, 14, 255)) });
    const counts = { loaded: 0, refused: 0 };
    await fc.assert(
      fc.asyncProperty(fc.array(edit, { minLength: 1, maxLength: 2 }), async (edits) => {
        const changed = Uint8Array.from(bytes);
        for (const { at: offset, value } of edits) changed[offset] = value;
        writeFileSync(path, changed);
        counts[(await answer(path)) === 'loaded' ? 'loaded' : 'refused']++;
      }),
      { numRuns: runs(150, 400), seed: 4 },
    );
    expect(Math.min(counts.loaded, counts.refused)).toBeGreaterThan(10);
  });
});
