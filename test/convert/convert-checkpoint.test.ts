/**
 * Conversion by the paper's methods: transformers' logits for every family, exact repetition of heads, and
 * the files that are copied.
 */
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { openCheckpoint } from '../../src/checkpoint/index.ts';
import { convertCheckpoint } from '../../src/convert/index.ts';
import { copyTiny, removeCheckpoints } from '../models/checkpoints.ts';
import { expectClose, GOLDEN, Golden, SMOLLM2 } from '../models/golden.ts';
import { contentOf, FAMILIES, freshPath, logitsOf, multiHead, removeFolders } from './folders.ts';

afterAll(() => {
  removeFolders();
  removeCheckpoints();
});

/** One tensor of q, k and v in each of two layers. */
const FUSED = ['phi3', 'gpt2', 'falcon_40b', 'falcon_rw', 'gpt_bigcode'];

const json = (path: string) => JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;

describe.each(FAMILIES)('%s', (family) => {
  const from = multiHead(family);
  const counts = family === 'gpt2' || family === 'gpt_bigcode' ? [1] : [3, 2, 1];

  test.each(counts.flatMap((K) => [['mean', K] as const, ['first', K] as const]))(
    '%s to K=%i gives the logits of NumPy and transformers',
    async (method, K) => {
      const golden = await Golden.open(`convert/${family}`);
      const to = freshPath('out');
      await convertCheckpoint({ from, to, numKeyValueHeads: K, method });
      const got = await logitsOf(to, golden.rows('tokens')[0]);
      expectClose(got, golden.floats(`${method}-${K}/logits`), 2e-5);
    },
  );

  test('to the same K is the same, byte for byte', async () => {
    const to = freshPath('out');
    await convertCheckpoint({ from, to, numKeyValueHeads: 6 });
    expect(await contentOf(to)).toEqual(await contentOf(from));
    expect(json(join(to, 'config.json'))).toEqual(json(join(from, 'config.json')));
    expect(json(join(to, 'generation_config.json'))).toEqual(json(join(from, 'generation_config.json')));
  });

  test.each(counts)('K=%i, up to multi-head and down again is the same, byte for byte', async (K) => {
    const [pooled, up, down] = ['pooled', 'up', 'down'].map(freshPath);
    await convertCheckpoint({ from, to: pooled, numKeyValueHeads: K });
    await convertCheckpoint({ from: pooled, to: up, numKeyValueHeads: 6 });
    const tokens = [3, 1, 4, 1, 5, 9, 2, 6];
    expectClose(await logitsOf(up, tokens), await logitsOf(pooled, tokens), 1e-6);
    await convertCheckpoint({ from: up, to: down, numKeyValueHeads: K });
    expect(await contentOf(down)).toEqual(await contentOf(pooled));
    await convertCheckpoint({ from: up, to: down, numKeyValueHeads: K, method: 'first', force: true });
    expect(await contentOf(down)).toEqual(await contentOf(pooled));
  });

  test('random draws by its seed', async () => {
    const [a, b, c] = ['a', 'b', 'c'].map(freshPath);
    for (const [to, seed] of [
      [a, 1],
      [b, 1],
      [c, 2],
    ] as const) {
      await convertCheckpoint({ from, to, numKeyValueHeads: 1, method: 'random', seed });
    }
    expect(await contentOf(a)).toEqual(await contentOf(b));
    const [first, other, before] = await Promise.all([a, c, from].map(contentOf));
    const changed = [...first].filter(([name, bytes]) => other.get(name) !== bytes).map(([name]) => name);
    expect(changed.length).toBe(FUSED.includes(family) ? 2 : 4);
    for (const name of changed) expect(before.has(name)).toBe(true);
    expect((await logitsOf(a, [3, 1, 4])).every(Number.isFinite)).toBe(true);
  });
});

describe('files', () => {
  test('whole numbers that the config spells as floats stay so, which transformers insists on', async () => {
    const to = freshPath('out');
    await convertCheckpoint({ from: multiHead('gemma2'), to, numKeyValueHeads: 2 });
    const text = readFileSync(join(to, 'config.json'), 'utf8');
    expect(text).toContain('"attn_logit_softcapping": 3.0,');
    expect(text).toContain('"final_logit_softcapping": 9.0,');
    expect(text).toContain('"num_key_value_heads": 2,');
  });

  test('only the language model of a file with images changes', async () => {
    const [from, to] = [multiHead('gemma3_images'), freshPath('out')];
    await convertCheckpoint({ from, to, numKeyValueHeads: 2 });
    const [before, after] = [json(join(from, 'config.json')), json(join(to, 'config.json'))];
    expect(after).toEqual({
      ...before,
      text_config: { ...(before.text_config as object), num_key_value_heads: 2 },
    });
    const [old, now] = await Promise.all([from, to].map(contentOf));
    const changed = [...now.keys()].filter((name) => old.get(name) !== now.get(name));
    expect(changed).toHaveLength(4);
    for (const name of changed) expect(name).toMatch(/^language_model\..*self_attn\.[kv]_proj\.weight$/);
  });

  test.each([
    ['tiny-falcon/7b', 5, { multi_query: false, num_kv_heads: 5 }],
    ['convert/falcon_rw', 1, { multi_query: true }],
    ['convert/falcon_rw', 2, { new_decoder_architecture: true, num_kv_heads: 2, num_ln_in_parallel_attn: 1 }],
    ['convert/falcon_40b', 2, { new_decoder_architecture: true, num_kv_heads: 2 }],
    ['tiny-falcon/sequential', 1, { multi_query: true, parallel_attn: false }],
  ])('%s with K=%i says so in its own way', async (name, K, keys) => {
    const [from, to] = [join(GOLDEN, name), freshPath('out')];
    await convertCheckpoint({ from, to, numKeyValueHeads: K });
    expect(json(join(to, 'config.json'))).toEqual({ ...json(join(from, 'config.json')), ...keys });
    expect((await logitsOf(to, [3, 1, 4])).every(Number.isFinite)).toBe(true);
  });

  test('shards stay, the index counts the new bytes, tokenizer files come along, weights of other kinds do not', async () => {
    const extra = {
      'tokenizer.json': '{}',
      'tokenizer_config.json': '{"a":1}',
      'special_tokens_map.json': '{}',
      LICENSE: 'free',
    };
    const from = copyTiny('sharded', {}, { ...extra, 'pytorch_model.bin': 'x', 'training_args.bin': 'x' });
    const to = freshPath('out');
    const K = json(join(from, 'config.json')).num_key_value_heads as number;
    const { files, bytes } = await convertCheckpoint({ from, to, numKeyValueHeads: 1 });
    expect(K).toBeGreaterThan(1);
    const names = readdirSync(to).sort();
    expect([...files].sort()).toEqual(names);
    for (const name of Object.keys(extra)) {
      expect(readFileSync(join(to, name), 'utf8')).toBe(readFileSync(join(from, name), 'utf8'));
    }
    expect(names.filter((name) => name.endsWith('.bin'))).toEqual([]);
    const index = json(join(to, 'model.safetensors.index.json')) as {
      metadata: unknown;
      weight_map: unknown;
    };
    const old = json(join(from, 'model.safetensors.index.json')) as { weight_map: unknown };
    expect(index.weight_map).toEqual(old.weight_map);
    expect(index.metadata).toEqual({ total_size: bytes });
    expect(json(join(to, 'config.json'))).toEqual({
      ...json(join(from, 'config.json')),
      num_key_value_heads: 1,
    });
  });

  test.each([
    ['gpt_oss', 'swiglu_limit', '7.0'],
    ['mixtral', 'router_jitter_noise', '0.0'],
    ['llama4_text', 'router_jitter_noise', '0.0'],
  ])('what transformers wants as a float stays one: %s, %s', async (family, key, value) => {
    const to = freshPath('out');
    await convertCheckpoint({ from: multiHead(family), to, numKeyValueHeads: 2 });
    const text = readFileSync(join(to, 'config.json'), 'utf8');
    expect(text).toContain(`"${key}": ${value},`);
    expect(text).toMatch(/"vocab_size": 37,?$/m);
  });

  test('another type is written, and named in the config', async () => {
    const to = freshPath('out');
    await convertCheckpoint({ from: multiHead('llama'), to, numKeyValueHeads: 2, dtype: 'bf16' });
    for (const content of (await contentOf(to)).values()) expect(content).toMatch(/^bf16 /);
    expect(json(join(to, 'config.json')).dtype).toBe('bfloat16');
  });

  test.each(['bf16', 'f16'])('%s is pooled in full precision and rounded once', async (name) => {
    const K = json(join(GOLDEN, 'tiny-llama', name, 'config.json')).num_key_value_heads as number;
    const [pooled, up, down] = ['pooled', 'up', 'down'].map(freshPath);
    await convertCheckpoint({ from: join(GOLDEN, 'tiny-llama', name), to: pooled, numKeyValueHeads: 1 });
    await convertCheckpoint({ from: pooled, to: up, numKeyValueHeads: K });
    await convertCheckpoint({ from: up, to: down, numKeyValueHeads: 1 });
    expect(await contentOf(down)).toEqual(await contentOf(pooled));
    for (const content of (await contentOf(pooled)).values())
      expect(content.startsWith(`${name} `)).toBe(true);
  });

  test('gpt2 becomes gpt_bigcode without its mask buffers', async () => {
    const to = freshPath('out');
    await convertCheckpoint({ from: join(GOLDEN, 'tiny-gpt2/prefix'), to, numKeyValueHeads: 1 });
    expect(json(join(to, 'config.json'))).toMatchObject({
      model_type: 'gpt_bigcode',
      architectures: ['GPTBigCodeForCausalLM'],
      multi_query: true,
      num_key_value_heads: 1,
    });
    expect([...(await contentOf(to)).keys()].filter((name) => /\.attn\.(masked_)?bias$/.test(name))).toEqual(
      [],
    );
  });
});

describe('the K that transformers states in a gpt_bigcode config', () => {
  test('goes when it becomes gpt2', async () => {
    const [from, to] = [join(GOLDEN, 'tiny-gpt_bigcode/one'), freshPath('out')];
    expect(json(join(from, 'config.json')).num_key_value_heads).toBe(1);
    await convertCheckpoint({ from, to, numKeyValueHeads: 4 });
    expect(json(join(to, 'config.json'))).not.toHaveProperty('num_key_value_heads');
    const tokens = [3, 1, 4, 1, 5, 9, 2, 6];
    expectClose(await logitsOf(to, tokens), await logitsOf(from, tokens), 1e-6);
  });

  test('follows when its heads are pooled', async () => {
    const [from, to] = [join(GOLDEN, 'tiny-gpt_bigcode/many'), freshPath('out')];
    expect(json(join(from, 'config.json')).num_key_value_heads).toBe(4);
    await convertCheckpoint({ from, to, numKeyValueHeads: 1 });
    expect(json(join(to, 'config.json'))).toMatchObject({ multi_query: true, num_key_value_heads: 1 });
  });
});

describe('errors', () => {
  const llama = multiHead('llama');
  const fails = async (
    options: Partial<Parameters<typeof convertCheckpoint>[0]>,
    message: string | RegExp,
  ) => {
    const to = freshPath('out');
    await expect(convertCheckpoint({ from: llama, to, numKeyValueHeads: 2, ...options })).rejects.toThrow(
      message,
    );
    expect(existsSync(to)).toBe(false);
    expect(readdirSync(join(to, '..'))).toEqual([]);
  };

  test('K that does not divide', () =>
    fails(
      { numKeyValueHeads: 4 },
      "expected numKeyValueHeads to divide the checkpoint's K=6, or to be a multiple of it that divides N=6, got 4; choose one of 1, 2, 3",
    ));
  test('nothing to pool', () =>
    fails(
      { from: join(GOLDEN, 'tiny-llama/mqa'), numKeyValueHeads: 1 },
      /expected more than one key\/value head to pool, got a multi-query model \(N=\d+, K=1\); it can be written with K=/,
    ));
  test('no class', () =>
    fails(
      { from: multiHead('gpt2'), numKeyValueHeads: 2 },
      'expected K=1 (written as gpt_bigcode) or K=6 (gpt2) for learned positions, got K=2',
    ));
  test.each(['tiny-falcon/7b', 'tiny-gpt_bigcode/one', 'tiny-gemma3/plain'])(
    'nothing to pool in %s',
    (name) =>
      fails(
        { from: join(GOLDEN, name), numKeyValueHeads: 1 },
        /expected more than one key\/value head to pool, got a multi-query model/,
      ),
  );
  test.each([
    ['tiny-phi/plain', 2, 'PhiForCausalLM'],
    ['tiny-stablelm/plain', 2, 'StableLmForCausalLM'],
    ['tiny-olmo/plain', 2, 'OlmoForCausalLM'],
    ['tiny-gpt2/prefix', 1, 'GPTBigCodeForCausalLM'],
  ])('%s with K=%i says which class holds it', async (name, K, architecture) => {
    const options = { from: join(GOLDEN, name), to: freshPath('out'), numKeyValueHeads: K };
    expect(await convertCheckpoint(options)).toMatchObject({ architecture });
  });
  test.each([
    ['tiny-gpt_neox/sequential', 'expected K=4 for gpt_neox, got K=2'],
    ['tiny-opt/plain', 'expected K=4 for opt, got K=2'],
  ])('no class for %s', (name, text) => fails({ from: join(GOLDEN, name), numKeyValueHeads: 2 }, text));
  test.each(['plain', 'keys', 'experts'])('layers of Gemma 4 with heads of their own: %s', (option) =>
    fails(
      { from: join(GOLDEN, 'tiny-gemma4_text', option), numKeyValueHeads: 1 },
      'expected layers with one K and head dim and keys and values of their own, got layers that differ or share them',
    ),
  );
  test('no form of Falcon', () =>
    fails(
      { from: join(GOLDEN, 'tiny-falcon/sequential'), numKeyValueHeads: 2 },
      'expected K=1 or K=4 for Falcon without parallel attention, got K=2',
    ));
  test('a missing shard', () => {
    const from = copyTiny('sharded');
    const shard = readdirSync(from).find((name) => name.endsWith('.safetensors') && name.includes('00001'))!;
    writeFileSync(
      join(from, 'model.safetensors.index.json'),
      readFileSync(join(from, 'model.safetensors.index.json'), 'utf8').replaceAll(shard, 'gone.safetensors'),
    );
    return fails({ from, numKeyValueHeads: 1 }, /got no gone\.safetensors; fetch the missing files/);
  });
  test('an index that names absent tensors', () => {
    const from = copyTiny('sharded');
    const path = join(from, 'model.safetensors.index.json');
    const index = json(path) as { weight_map: Record<string, string> };
    index.weight_map['model.layers.9.none'] = Object.values(index.weight_map)[0];
    writeFileSync(path, JSON.stringify(index));
    return fails(
      { from, numKeyValueHeads: 1 },
      /expected tensor "model\.layers\.9\.none" in .*, got a shard without it/,
    );
  });
  test('a config that the tensors contradict', () =>
    fails(
      { from: copyTiny('convert/llama', { num_key_value_heads: 3 }), numKeyValueHeads: 1 },
      /expected tensor model\.layers\.0\.self_attn\.k_proj\.weight of shape \[24, 24\], got \[48, 24\]/,
    ));
  test('no config', () =>
    fails({ from: join(llama, 'model.safetensors', '..', '..', 'none') }, /got nothing there/));
  test('an unknown method and type', async () => {
    await fails({ method: 'median' as 'mean' }, 'expected method mean, first, random, similar, got median');
    await fails({ dtype: 'q8_0' }, 'expected dtype f32, f16, bf16 for safetensors, got q8_0');
  });
  test('GGUF to a directory', async () => {
    await fails(
      { from: join(GOLDEN, 'tiny-mistral/plain.gguf'), numKeyValueHeads: 1 },
      'expected a directory of safetensors to write one, got GGUF',
    );
  });
  test('an output that exists, lies inside the input, or is no checkpoint', async () => {
    const to = freshPath('out');
    const convert = (options: object) =>
      convertCheckpoint({ from: llama, to, numKeyValueHeads: 2, ...options });
    await convert({});
    await expect(convert({})).rejects.toThrow(
      `${to}: expected nothing there, got a folder; { force: true } replaces it`,
    );
    const before = await contentOf(to);
    await expect(convert({ numKeyValueHeads: 4, force: true })).rejects.toThrow(
      'expected numKeyValueHeads to divide',
    );
    expect(await contentOf(to)).toEqual(before);
    await convert({ numKeyValueHeads: 1, force: true });
    expect(await contentOf(to)).not.toEqual(before);
    expect(readdirSync(join(to, '..'))).toEqual(['out']);
    await expect(convert({ to: join(llama, 'inside') })).rejects.toThrow(
      'expected a place outside of the checkpoint',
    );
    await expect(convert({ to: llama, force: true })).rejects.toThrow(
      'expected a place outside of the checkpoint',
    );
    const home = freshPath('home');
    mkdirSync(home);
    writeFileSync(join(home, 'thesis.tex'), 'years');
    await expect(convert({ to: home, force: true })).rejects.toThrow(
      'expected a checkpoint or an empty folder to replace, got a folder of something else',
    );
    expect(readdirSync(home)).toEqual(['thesis.tex']);
  });
});

describe('GGUF', () => {
  test.each([
    ['tiny-mistral/plain.gguf', 3],
    ['tiny-phi3/plain.gguf', 2],
    ['tiny-qwen3/plain.gguf', 2],
    ['tiny-gpt2/prefix.gguf', 4],
    ['tiny-gpt_oss/plain.gguf', 2],
  ])('%s: the same K, and down, up and down again, byte for byte', async (name, K) => {
    const from = join(GOLDEN, name);
    const [same, pooled, up, down] = ['s.gguf', 'p.gguf', 'u.gguf', 'd.gguf'].map(freshPath);
    await convertCheckpoint({ from, to: same, numKeyValueHeads: K });
    expect(await contentOf(same)).toEqual(await contentOf(from));
    await convertCheckpoint({ from, to: pooled, numKeyValueHeads: 1 });
    await convertCheckpoint({ from: pooled, to: up, numKeyValueHeads: K });
    expectClose(await logitsOf(up, [3, 1, 4, 1, 5]), await logitsOf(pooled, [3, 1, 4, 1, 5]), 1e-6);
    await convertCheckpoint({ from: up, to: down, numKeyValueHeads: 1 });
    expect(readFileSync(down).equals(readFileSync(pooled))).toBe(true);
  });

  test.each(['llama', 'mistral'])(
    '%s from safetensors: pooled either way round, the same model',
    async (family) => {
      const golden = await Golden.open(`convert/${family}`);
      const tokens = golden.rows('tokens')[0];
      const [whole, direct, later] = ['w.gguf', 'd.gguf', 'l.gguf'].map(freshPath);
      await convertCheckpoint({ from: multiHead(family), to: whole, numKeyValueHeads: 6 });
      expectClose(await logitsOf(whole, tokens), golden.floats('logits'), 2e-5);
      for (const K of [3, 1]) {
        await convertCheckpoint({ from: multiHead(family), to: direct, numKeyValueHeads: K, force: true });
        expectClose(await logitsOf(direct, tokens), golden.floats(`mean-${K}/logits`), 2e-5);
        await convertCheckpoint({ from: whole, to: later, numKeyValueHeads: K, force: true });
        expect(await contentOf(later)).toEqual(await contentOf(direct));
      }
    },
  );

  test('chat templates are kept, one by one as gguf-py writes them', async () => {
    const folder = freshPath('m');
    cpSync(multiHead('llama'), folder, { recursive: true });
    const letters = Array.from({ length: 37 }, (_, id) => [String.fromCharCode(33 + id), id]);
    const tokenizer = {
      model: { type: 'BPE', vocab: Object.fromEntries(letters), merges: [], byte_fallback: true },
      normalizer: { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
    };
    writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(tokenizer));
    writeFileSync(join(folder, 'chat_template.jinja'), 'D');
    mkdirSync(join(folder, 'additional_chat_templates'));
    writeFileSync(join(folder, 'additional_chat_templates', 'tool use.jinja'), 'T');
    const to = freshPath('t.gguf');
    await convertCheckpoint({ from: folder, to, numKeyValueHeads: 3 });
    const checkpoint = await openCheckpoint(to);
    const kept = [...(checkpoint.gguf?.metadata ?? [])].filter(([key]) => key.includes('chat_template'));
    await checkpoint.close();
    expect(Object.fromEntries(kept)).toEqual({
      'tokenizer.chat_template': 'D',
      'tokenizer.chat_template.tool_use': 'T',
      'tokenizer.chat_templates': ['tool_use'],
    });
    const out = freshPath('hf');
    await convertCheckpoint({ from: folder, to: out, numKeyValueHeads: 3 });
    expect(readFileSync(join(out, 'additional_chat_templates', 'tool use.jinja'), 'utf8')).toBe('T');
    await convertCheckpoint({ from: folder, to: out, numKeyValueHeads: 1, force: true });
  });

  test('families in another form are named', async () => {
    const to = freshPath('x.gguf');
    await expect(convertCheckpoint({ from: multiHead('qwen2'), to, numKeyValueHeads: 1 })).rejects.toThrow(
      'expected llama or mistral to write GGUF from safetensors, got qwen2',
    );
  });

  test.skipIf(SMOLLM2 === undefined)(
    'SmolLM2: block types stay where nothing changes, and up and down is exact',
    async () => {
      const from = SMOLLM2!;
      const [up, down] = ['up.gguf', 'down.gguf'].map(freshPath);
      await convertCheckpoint({ from, to: up, numKeyValueHeads: 9 });
      await convertCheckpoint({ from: up, to: down, numKeyValueHeads: 3 });
      const got = await contentOf(down);
      for (const [name, content] of await contentOf(from)) expect(got.get(name) === content, name).toBe(true);
    },
  );
});

test('a file that ends while it is read is told, and nothing stays', async () => {
  const from = copyTiny('convert/llama');
  const to = freshPath('out');
  const weights = join(from, 'model.safetensors');
  const onProgress = () => truncateSync(weights, 20_000);
  await expect(convertCheckpoint({ from, to, numKeyValueHeads: 2, onProgress })).rejects.toThrow(
    /model\.safetensors: at byte \d+: expected \d+ more bytes, got the end of the file/,
  );
  expect(readdirSync(join(to, '..'))).toEqual([]);
});

describe('an abort', () => {
  const from = multiHead('llama');

  test.each([
    ['before', 'out', undefined],
    ['while a folder is written', 'out', 'writing'],
    ['while a GGUF file is written', 'out.gguf', 'writing'],
    ['between layers of similar', 'out', 'calibrating'],
  ] as const)('%s: its reason is thrown, and nothing stays', async (_, name, phase) => {
    const to = freshPath(name);
    const stop = new AbortController();
    const reason = new Error('enough');
    if (phase === undefined) stop.abort(reason);
    const seen: string[] = [];
    const onProgress = (_done: number, _total: number, at: string) => {
      seen.push(at);
      if (at === phase) setImmediate(() => stop.abort(reason)); // as a message from a page comes
    };
    const method = phase === 'calibrating' ? 'similar' : 'mean';
    const options = { from, to, numKeyValueHeads: 2, method, signal: stop.signal, onProgress } as const;
    await expect(convertCheckpoint(options)).rejects.toBe(reason);
    if (phase === 'calibrating') expect(seen).toEqual(['calibrating']);
    expect(readdirSync(join(to, '..'))).toEqual([]);
  });

  test.each(['out', 'out.gguf'])('leaves the checkpoint that %s was', async (name) => {
    const to = freshPath(name);
    const form = name === 'out' ? {} : { dtype: 'f32' as const };
    await convertCheckpoint({ from, to, numKeyValueHeads: 3, ...form });
    const before = await contentOf(to);
    const stop = new AbortController();
    const onProgress = () => stop.abort();
    const { signal } = stop;
    await expect(
      convertCheckpoint({ from, to, numKeyValueHeads: 1, force: true, signal, onProgress, ...form }),
    ).rejects.toThrow(/aborted/);
    expect(await contentOf(to)).toEqual(before);
    expect(readdirSync(join(to, '..'))).toEqual([name]);
  });
});
