/** Loading models: both spellings of configs, GGUF, conversion, and errors for files that do not fit. */
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { backendOfHandle } from '../../src/backend/handle.ts';
import { getBackend, open, setBackend } from '../../src/backend/registry.ts';
import { StaticCache } from '../../src/cache/index.ts';
import { FormatError } from '../../src/checkpoint/index.ts';
import { loadModel, type Model } from '../../src/models/index.ts';
import type { Storage } from '../../src/tensor/storage.ts';
import { u32Pair } from '../format/build-files.ts';
import { copyTiny, type Json, removeCheckpoints, tinyGguf, tokenizerJson } from './checkpoints.ts';
import { BACKENDS, collect, expectClose, GOLDEN, Golden, loadTiny, TINY } from './golden.ts';

afterAll(removeCheckpoints);
const backend = 'reference';

async function expectGolden(model: Model, name: string, tolerance: number): Promise<void> {
  const golden = await Golden.open(`tiny-llama/${name}`);
  const logits = model.forward(golden.rows('tokens'));
  expectClose(logits.dataSync(), golden.floats('logits'), tolerance, name);
  logits.dispose();
}

test.each(TINY)('%s: the older config spelling is the same model', async (name) => {
  const old = JSON.parse(readFileSync(join(GOLDEN, 'tiny-llama', name, 'config.v4.json'), 'utf8')) as Json;
  const removed = { rope_parameters: undefined, head_dim: undefined, dtype: undefined };
  const model = await loadModel(copyTiny(name, { ...removed, ...old }), { backend });
  const now = await loadTiny(name, backend);
  expect(model.config).toEqual(now.config);
  model.dispose();
  now.dispose();
});

describe.each(BACKENDS)('GGUF on %s', (name) => {
  test.each(TINY.filter((tiny) => tiny !== 'llama3-rope'))(
    '%s: permuted q and k, rotated interleaved',
    async (tiny) => {
      const model = await loadModel(await tinyGguf(tiny), { backend: name });
      expect(model.config.rope?.interleaved).toBe(true);
      await expectGolden(model, tiny, 2e-5);
      model.dispose();
    },
  );

  test('rope_freqs.weight divides the frequencies', async () => {
    // Wavelengths of H = 16 at theta 10000 against the bounds 32 / 4 and 32 / 1: the first stays, the second
    // blends.
    const wavelength = (2 * Math.PI) / 10000 ** (-2 / 16);
    const smooth = (32 / wavelength - 1) / 3;
    const ropeFactors = [1, 1 / ((1 - smooth) / 8 + smooth), 8, 8, 8, 8, 8, 8];
    const model = await loadModel(await tinyGguf('llama3-rope', { ropeFactors }), { backend: name });
    await expectGolden(model, 'llama3-rope', 2e-5);
    model.dispose();
  });
});

test.each(BACKENDS)('%s: weights that are read without a mapping do not need the file', async (name) => {
  const folder = copyTiny('gqa-tied');
  const model = await loadModel(folder, { backend: name, useMmap: false });
  truncateSync(join(folder, 'model.safetensors'), 0);
  await expectGolden(model, 'gqa-tied', 2e-5);
  model.dispose();
});

test('end tokens come from both configs or from the GGUF keys', async () => {
  const model = await loadModel(
    copyTiny('mha', { eos_token_id: [7, 2] }, { 'generation_config.json': '{"eos_token_id": [2, 9]}' }),
    { backend },
  );
  expect(model.endTokenIds).toEqual([7, 2, 9]);
  const gguf = await loadModel(
    await tinyGguf('mha', { pairs: [u32Pair('tokenizer.ggml.eom_token_id', 11)] }),
    { backend },
  );
  expect(gguf.endTokenIds).toEqual([2, 5, 11]);
  expect(gguf.tokenizer).toBeUndefined();
  expect(model.tokenizer).toBeUndefined();
});

test.each<[string, object, string | undefined, number[]]>([
  ['the tokenizer alone', {}, undefined, [40]],
  ['all three', { eos_token_id: 7 }, '{"eos_token_id": [2, 7]}', [7, 2, 40]],
  ['a nested text model', { text_config: { eos_token_id: [3, 4] } }, '{}', [3, 4, 40]],
])(
  'end tokens of a Hugging Face folder: %s, for model and tokenizer alike',
  async (_, config, generation, want) => {
    const texts = Array.from({ length: 97 }, (_, id) => `<${id}>`);
    const folder = copyTiny(
      'mha',
      { eos_token_id: undefined, ...config },
      {
        'generation_config.json': generation ?? '{}',
        'tokenizer.json': tokenizerJson(texts),
        'tokenizer_config.json': '{"eos_token": "<40>"}',
      },
    );
    const model = await loadModel(folder, { backend });
    expect(model.endTokenIds).toEqual(want);
    expect([...model.tokenizer!.eosTokenIds].sort()).toEqual([...want].sort());
    model.dispose();
  },
);

test('the model runs on the backend it was loaded on', async () => {
  await setBackend('reference');
  for (const name of BACKENDS) {
    const model = await loadTiny('mqa', name);
    expect(backendOfHandle(model.backend)).toBe(open(name));
    expect(getBackend().name).toBe('reference');
    expect(await collect(model, [1, 2], { maxNewTokens: 2, stop: [] })).toHaveLength(2);
    model.dispose();
  }
});

test('dtype converts float weights', async () => {
  const half = await loadModel(join(GOLDEN, 'tiny-llama/mha'), { backend, dtype: 'f16' });
  await expect(expectGolden(half, 'mha', 2e-5)).rejects.toThrow('got');
  await expectGolden(half, 'mha', 1e-2);
  const wide = await loadModel(join(GOLDEN, 'tiny-llama/bf16'), { backend, dtype: 'f32' });
  await expectGolden(wide, 'bf16', 2e-5);
  await expect(
    loadModel(join(GOLDEN, 'tiny-llama/mha'), { backend, dtype: 'q8_0' as 'f32' }),
  ).rejects.toThrow(new TypeError('loadModel: expected dtype f32, f16 or bf16, got q8_0'));
});

test('progress goes up to all bytes', async () => {
  const seen: [number, number][] = [];
  await loadModel(join(GOLDEN, 'tiny-llama/gqa-tied'), {
    backend,
    onProgress: (done, total) => seen.push([done, total]),
  });
  expect(seen.length).toBeGreaterThan(3);
  const [, total] = seen[0];
  expect(seen.at(-1)).toEqual([total, total]);
  seen.forEach(([done], i) => {
    expect(done).toBeGreaterThan(seen[i - 1]?.[0] ?? 0);
  });
});

describe.each(BACKENDS)('memory on %s', (name) => {
  test('passes, generation and dispose give everything back', async () => {
    const owner = open(name);
    // What earlier tests dropped may be found by the garbage collector meanwhile: it does not count.
    const held = new Set<Storage>();
    const [make, release] = [owner.allocate.bind(owner), owner.free.bind(owner)];
    const allocate = vi.spyOn(owner, 'allocate').mockImplementation((byteLength) => {
      const storage = make(byteLength);
      held.add(storage);
      return storage;
    });
    const free = vi.spyOn(owner, 'free').mockImplementation((storage) => {
      held.delete(storage);
      release(storage);
    });
    const count = () => held.size;
    try {
      const model = await loadTiny('gqa-tied', name);
      const loaded = count();
      model.forward([[1, 2, 3], [4]], { logits: 'last' }).dispose();
      model.forward([[1, 2, 3], [4]]).dispose();
      expect(count()).toBe(loaded);
      await collect(model, [1, 2, 3], { maxNewTokens: 20, stop: [] });
      expect(count()).toBe(loaded);
      expect(() => model.forward([[97]])).toThrow();
      expect(count()).toBe(loaded);
      model.dispose();
      model.dispose();
      expect(count()).toBe(0);
    } finally {
      allocate.mockRestore();
      free.mockRestore();
    }
  });
});

describe('what forward refuses', () => {
  let model: Model;
  const load = async () => {
    model ??= await loadTiny('mha', backend);
    return model;
  };

  test.each<[string, unknown, string]>([
    ['an id past V', [[1, 97]], 'forward: expected token ids from 0 to 96 (V=97), got 97'],
    ['a negative id', [[-1]], 'forward: expected token ids from 0 to 96 (V=97), got -1'],
    ['a fraction', [[1.5]], 'forward: expected token ids from 0 to 96 (V=97), got 1.5'],
    ['no rows', [], 'forward: expected rows of at least one token, got row lengths []'],
    ['an empty row', [[1], []], 'forward: expected rows of at least one token, got row lengths [1, 0]'],
    [
      'too many tokens',
      [new Array(257).fill(1)],
      "forward: expected rows within the model's context of 256 tokens, got 257 in row 0",
    ],
  ])('%s', async (_, tokens, message) => {
    await load();
    expect(() => model.forward(tokens as number[][])).toThrow(new RangeError(message));
  });

  test('a flat list, another logits option, a cache that does not fit', async () => {
    await load();
    expect(() => model.forward([1, 2] as never)).toThrow(TypeError);
    expect(() => model.forward([[1]], { logits: 'first' as 'last' })).toThrow(
      "expected logits to be 'all' or 'last'",
    );
    const cache = model.initCache({ batchSize: 2, maxLength: 4 });
    expect(() => model.forward([[1]], { cache })).toThrow(
      'expected a cache of 1 rows and 2 layers, got 2 rows and 2 layers',
    );
    expect(() => model.initCache({ batchSize: 1, maxLength: 4, kind: 'ring' as 'static' })).toThrow(
      'expected kind static, window or paged, got ring',
    );
    cache.dispose();
  });

  test('a pass that fails leaves its cache as it was, and the next one is right', async () => {
    await load();
    const golden = await Golden.open('tiny-llama/mha');
    const [row] = golden.rows('tokens');
    const cache = model.initCache({ batchSize: 1, maxLength: 37 });
    model.forward([row.slice(0, 20)], { cache }).dispose();
    expect(() => model.forward([row.slice(0, 18)], { cache })).toThrow(
      new RangeError('StaticCache.reserve: row 0 holds 20 of 37 tokens, no room for 18 more'),
    );
    const write = vi.spyOn(StaticCache.prototype, 'write').mockImplementation((layer) => {
      if (layer === 1) throw new Error('broken');
    });
    expect(() => model.forward([row.slice(20)], { cache })).toThrow('broken');
    write.mockRestore();
    expect(cache.lengths).toEqual([20]);
    const logits = model.forward([row.slice(20)], { cache }).dataSync();
    expectClose(logits, golden.floats('logits').slice(20 * 97, 37 * 97), 2e-5);
    cache.dispose();
  });

  test('a disposed model', async () => {
    const gone = await loadTiny('mha', backend);
    gone.dispose();
    expect(() => gone.forward([[1]])).toThrow('the model was disposed');
  });
});

test.each([
  ['{}', 'expected an object with model.vocab, got {}'],
  ['null', 'expected an object with model.vocab, got null'],
  [
    '{"model":{"vocab":{"a":0}},"added_tokens":[3]}',
    'expected added_tokens to be a list of objects with id and content',
  ],
])('a tokenizer.json of %s is named when the tokenizer is asked for', async (text, message) => {
  const folder = copyTiny('mha', {}, { 'tokenizer.json': text });
  const model = await loadModel(folder, { backend });
  expect(() => model.tokenizer).toThrow(`${folder}/tokenizer.json: ${message}`);
  model.dispose();
});

describe('files that do not fit', () => {
  const failure = async (folder: string): Promise<string> => {
    const error = await loadModel(folder, { backend }).then(
      () => expect.fail('loaded'),
      (reason: Error) => reason,
    );
    expect(error).toBeInstanceOf(FormatError);
    expect(error.message.split('\n')).toHaveLength(1);
    return error.message.replaceAll(folder, 'DIR');
  };

  test.each<[string, Json, RegExp]>([
    [
      'an unknown architecture',
      { model_type: 'mamba' },
      /^DIR\/config.json: model_type: expected a supported one \(llama, mistral, .*\), got "mamba" \(architectures \["LlamaForCausalLM"\]\)$/,
    ],
    [
      'no architecture',
      { model_type: undefined },
      /expected a supported one \(llama, mistral, .*\), got no such key \(architectures \["LlamaForCausalLM"\]\)$/,
    ],
    [
      "a width that is not the tensors'",
      { intermediate_size: 60 },
      /^DIR\/model.safetensors: at byte \d+: expected tensor model.layers.0.mlp.gate_proj.weight of shape \[60, 48\], got \[56, 48\]$/,
    ],
    [
      'a tensor that is not there',
      { num_hidden_layers: 3 },
      /^DIR: expected tensor model.layers.2.input_layernorm.weight of shape \[48\], got none of that name$/,
    ],
    ['an epsilon of 0', { rms_norm_eps: 0 }, /rms_norm_eps: expected a positive number, got 0$/],
    [
      'another activation',
      { hidden_act: 'xielu' },
      /hidden_act: expected one of silu, swish, .*, linear, got "xielu"$/,
    ],
    [
      'another scaling',
      { rope_parameters: { rope_type: 'proportional', factor: 2 } },
      /rope_type: expected default, linear, dynamic, llama3, yarn or longrope, got "proportional"$/,
    ],
    [
      'a scaling without its factor',
      { rope_parameters: { rope_type: 'linear' } },
      /factor: expected a positive number, got no such key$/,
    ],
    ['a wrong type', { attention_bias: 1 }, /attention_bias: expected true or false, got 1$/],
  ])('%s', async (_, config, message) => {
    expect(await failure(copyTiny('mha', config))).toMatch(message);
  });

  test('an unknown GGUF architecture', async () => {
    const path = await tinyGguf('mha');
    const bytes = readFileSync(path);
    bytes.write('lxama', bytes.indexOf('llama'));
    writeFileSync(path, bytes);
    expect(await failure(path)).toMatch(
      /^DIR: general.architecture: expected a supported one \(llama, qwen2, .*\), got "lxama"$/,
    );
  });
});
