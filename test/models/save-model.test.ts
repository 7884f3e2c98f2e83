/** Models written by `saveModel`: every family, from files and from code, with all that lies beside the weights. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openCheckpoint } from '../../src/checkpoint/index.ts';
import { MemoryFolder } from '../../src/files/memory-folder.ts';
import * as gqa from '../../src/index.ts';
import { characterTokenizer, loadModel, type Model, saveModel } from '../../src/models/index.ts';
import { createModel, llamaConfig, loadTrainableModel, Optimizer, sgd } from '../../src/train/index.ts';
import { copyTiny, removeCheckpoints, tinyGguf, tokenizerJson } from './checkpoints.ts';
import { expectClose, GOLDEN } from './golden.ts';

let out: string;
beforeAll(() => {
  out = mkdtempSync(join(tmpdir(), 'gqa-save-'));
});
afterAll(() => {
  rmSync(out, { recursive: true, force: true });
  removeCheckpoints();
});

let folders = 0;
const fresh = (): string => join(out, `model-${folders++}`);

const PROMPT = [[1, 7, 3, 20, 11, 5, 2, 9, 0, 6, 13, 22]];

function logits(model: Model): Float32Array {
  const y = model.forward(PROMPT);
  try {
    return y.dataSync() as Float32Array;
  } finally {
    y.dispose();
  }
}

/** The logits of what lies in a folder. */
async function logitsOf(path: string | MemoryFolder): Promise<Float32Array> {
  const model = await loadModel(path);
  try {
    return logits(model);
  } finally {
    model.dispose();
  }
}

const json = (folder: string, name: string) =>
  JSON.parse(readFileSync(join(folder, name), 'utf8')) as Record<string, unknown>;

/** All tiny Hugging Face folders: `tiny-llama/mha`, … */
const TINY_FOLDERS = readdirSync(GOLDEN)
  .filter((family) => family.startsWith('tiny-'))
  .flatMap((family) => readdirSync(join(GOLDEN, family)).map((name) => `${family}/${name}`))
  .filter((name) => existsSync(join(GOLDEN, name, 'config.json')));

test('the folders of all families are there', () => {
  expect(new Set(TINY_FOLDERS.map((name) => name.split('/')[0])).size).toBe(37);
});

describe.each(TINY_FOLDERS)('%s', (name) => {
  test('is the same model after saving, with the same tensors', async () => {
    const to = fresh();
    const model = await loadModel(join(GOLDEN, name));
    const before = logits(model);
    await saveModel(to, model);
    model.dispose();
    expect(await logitsOf(to)).toEqual(before);
    await using was = await openCheckpoint(join(GOLDEN, name));
    await using is = await openCheckpoint(to);
    for (const [tensorName, { dtype, shape }] of is.tensors) {
      expect({ dtype, shape }).toEqual({
        dtype: was.tensor(tensorName).dtype,
        shape: was.tensor(tensorName).shape,
      });
      expect(await is.readBytes(tensorName), tensorName).toEqual(await was.readBytes(tensorName));
    }
    const dropped = [...was.tensors.keys()].filter((tensorName) => !is.tensors.has(tensorName));
    // With tied embeddings the head is the table; GPT-2's old files hold its mask.
    expect(
      dropped.filter((tensorName) => !/^lm_head\.weight$|\.attn\.(masked_)?bias$/.test(tensorName)),
    ).toEqual([]);
  });

  test('is the same model when its weights were parameters', async () => {
    const to = fresh();
    const model = await loadTrainableModel(join(GOLDEN, name));
    const before = logits(model);
    await saveModel(to, model);
    model.dispose();
    expect(await logitsOf(to)).toEqual(before);
  });
});

describe('a model from a GGUF file', () => {
  test.each([
    ['tiny-llama/gqa-tied', () => tinyGguf('gqa-tied')],
    ['tiny-llama/bias', () => tinyGguf('bias')],
    ['tiny-qwen2/plain', () => join(GOLDEN, 'tiny-qwen2/plain.gguf')],
    ['tiny-qwen3/plain', () => join(GOLDEN, 'tiny-qwen3/plain.gguf')],
  ] as const)('%s has the tensors that transformers saved', async (name, path) => {
    const to = fresh();
    const model = await loadModel(await path());
    // The tokenizers of the tiny files are none.
    const tokenizer = name.startsWith('tiny-llama') ? undefined : characterTokenizer('abc');
    await saveModel(to, model, { tokenizer });
    const ends = tokenizer?.eosTokenIds ?? model.endTokenIds;
    model.dispose();
    await using was = await openCheckpoint(join(GOLDEN, name));
    await using is = await openCheckpoint(to);
    expect([...is.tensors.keys()].sort()).toEqual([...was.tensors.keys()].sort());
    for (const tensorName of is.tensors.keys()) {
      expect(await is.readBytes(tensorName), tensorName).toEqual(await was.readBytes(tensorName));
    }
    expect(await logitsOf(to)).toEqual(await logitsOf(join(GOLDEN, name)));
    const saved = await loadModel(to);
    expect(saved.endTokenIds).toEqual(ends);
    saved.dispose();
  });

  test('with block types is written as f16, or f32 on demand', async () => {
    const path = join(GOLDEN, 'quant/second-q8_0.gguf');
    const model = await loadModel(path);
    const before = logits(model);
    const [narrow, wide] = [fresh(), fresh()];
    await saveModel(narrow, model);
    await saveModel(wide, model, { dtype: 'f32' });
    model.dispose();
    expect(json(narrow, 'config.json').dtype).toBe('float16');
    expect(json(wide, 'config.json').dtype).toBe('float32');
    expectClose(await logitsOf(narrow), before, 2e-3, 'f16');
    expectClose(await logitsOf(wide), before, 1e-5, 'f32');
  });

  test.each([
    ['tiny-mistral/window.gguf', 'got llama from a GGUF file with its attention.0.window'],
    ['quant/llama3-rope-f32.gguf', 'got llama from a GGUF file with its rope.divisors'],
    ['tiny-gemma2/plain.gguf', 'its architecture; of GGUF files, llama, qwen2, qwen3 can be saved'],
  ])('%s is refused with the reason', async (path, reason) => {
    const model = await loadModel(join(GOLDEN, path));
    const to = fresh();
    await expect(saveModel(to, model)).rejects.toThrow(reason);
    expect(existsSync(to)).toBe(false);
    model.dispose();
  });
});

describe('a model from code', () => {
  const text = 'Call me Ishmael. Some years ago — never mind how long precisely …';
  const tokenizer = characterTokenizer(text);
  const made = () => {
    const sizes = { vocabSize: tokenizer.vocabSize, hiddenSize: 32, numLayers: 2, numHeads: 4 };
    return createModel(llamaConfig({ ...sizes, numKeyValueHeads: 2 }), { seed: 5 });
  };

  test('is saved with a tokenizer of characters', async () => {
    const to = fresh();
    const model = made();
    await saveModel(to, model, { tokenizer });
    const saved = await loadModel(to);
    const rows = [tokenizer.encode('me')];
    expect(saved.forward(rows).dataSync()).toEqual(model.forward(rows).dataSync());
    expect(saved.tokenizer?.encode(text)).toEqual(tokenizer.encode(text));
    expect(saved.tokenizer?.decode(tokenizer.encode(text))).toBe(text);
    expect(saved.endTokenIds).toEqual([]);
    expect(readdirSync(to).sort()).toEqual([
      'config.json',
      'generation_config.json',
      'model.safetensors',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
    saved.dispose();
  });

  test('is saved with its weights as they are, and again in the same place', async () => {
    const to = fresh();
    const model = made();
    await saveModel(to, model);
    expect(existsSync(join(to, 'tokenizer.json'))).toBe(false);
    const ones = [...model.parameters()].map(([name, { value }]) => [name, gqa.ones(value.shape)] as const);
    const before = logits(model);
    new Optimizer(model, sgd({ learningRate: 0.1 })).update(model, Object.fromEntries(ones));
    expect(logits(model)).not.toEqual(before);
    await saveModel(to, model);
    expect(await logitsOf(to)).toEqual(logits(model));
    expect(readdirSync(out).filter((name) => name.startsWith('.'))).toEqual([]);
  });

  test('can be in shards', async () => {
    const to = fresh();
    const model = made();
    await saveModel(to, model, { maxShardSize: '20KB', dtype: 'bf16' });
    const shards = readdirSync(to).filter((name) => name.endsWith('.safetensors'));
    expect(shards.length).toBeGreaterThan(2);
    for (const shard of shards) {
      expect(shard).toMatch(new RegExp(`^model-0000\\d-of-0000${shards.length}\\.safetensors$`));
    }
    await using checkpoint = await openCheckpoint(to);
    expect(checkpoint.tensors.size).toBe(model.parameters().size);
    expect([...checkpoint.tensors.values()].every(({ dtype }) => dtype === 'bf16')).toBe(true);
    const index = json(to, 'model.safetensors.index.json').metadata as { total_size: number };
    expect(index.total_size).toBe(2 * model.parameterCount);
  });

  test.each([[0], [1.5], ['5 gigabytes'], ['0GB'], ['-1KB']])(
    'refuses maxShardSize %s',
    async (maxShardSize) => {
      await expect(saveModel(fresh(), made(), { maxShardSize })).rejects.toThrow(
        /^saveModel: expected maxShardSize to be bytes or a text such as '5GB', got /,
      );
    },
  );

  test('can lie in a folder in memory', async () => {
    const folder = new MemoryFolder('memory');
    const model = made();
    await saveModel(folder, model, { tokenizer });
    await saveModel(folder, model);
    expect((await folder.list()).map(({ name }) => name)).toEqual([
      'config.json',
      'generation_config.json',
      'model.safetensors',
    ]);
    expect(await logitsOf(folder)).toEqual(logits(model));
    await saveModel({ folder, file: 'inner' }, model);
    expect(await logitsOf(folder.folder('inner') as MemoryFolder)).toEqual(logits(model));
  });

  test('wrong arguments are refused', async () => {
    const to = fresh();
    const model = made();
    await expect(saveModel(model as never, to as never)).rejects.toThrow(/^saveModel: expected a path first/);
    await expect(saveModel(to, {} as never)).rejects.toThrow(/^saveModel: expected a model second/);
    await expect(saveModel(to, model, { dtype: 'q8_0' as never })).rejects.toThrow(
      /expected dtype f32, f16 or/,
    );
    for (const tokenizer of [{}, null] as never[])
      await expect(saveModel(to, model, { tokenizer })).rejects.toThrow(/expected a tokenizer/);
    model.dispose();
    await expect(saveModel(to, model)).rejects.toThrow('saveModel: the model was disposed');
    expect(existsSync(to)).toBe(false);
  });
});

describe('what is in the folder', () => {
  test('is kept when it is no model', async () => {
    const model = await loadModel(join(GOLDEN, 'tiny-llama/mqa'));
    const to = fresh();
    await saveModel(to, model);
    writeFileSync(join(to, 'optimizer.safetensors'), 'state');
    await expect(saveModel(to, model)).rejects.toThrow(
      `${to}: expected no folder, an empty one or one of a model alone, got one with optimizer.safetensors, which would be lost`,
    );
    expect(readFileSync(join(to, 'optimizer.safetensors'), 'utf8')).toBe('state');
    rmSync(join(to, 'optimizer.safetensors'));
    rmSync(join(to, 'config.json'));
    await expect(saveModel(to, model)).rejects.toThrow('got one without config.json');
    writeFileSync(join(out, 'file'), '');
    await expect(saveModel(join(out, 'file'), model)).rejects.toThrow(/one of a model alone, got a file$/);
    expect(statSync(join(out, 'file')).isFile()).toBe(true);
    model.dispose();
  });

  test('is replaced when it is a model, also the one that is saved', async () => {
    const from = copyTiny('mha', {}, { LICENSE: 'free', 'tokenizer.json': tokenizerJson(['a']) });
    const first = await loadModel(from);
    const to = fresh();
    await saveModel(to, first);
    first.dispose();
    const model = await loadModel(to);
    const before = logits(model);
    await saveModel(to, model);
    await saveModel(to, model);
    expect(await logitsOf(to)).toEqual(before);
    expect(readFileSync(join(to, 'LICENSE'), 'utf8')).toBe('free');
    model.dispose();
  });

  test('a model whose folder is gone needs a tokenizer', async () => {
    const from = copyTiny('mha');
    const model = await loadModel(from);
    rmSync(from, { recursive: true });
    const to = fresh();
    await expect(saveModel(to, model)).rejects.toThrow(
      /got a folder without config.json; give \{ tokenizer \}$/,
    );
    await saveModel(to, model, { tokenizer: characterTokenizer('abc') });
    expect(await logitsOf(to)).toEqual(logits(model));
    model.dispose();
  });

  test('a given tokenizer brings its own special tokens', async () => {
    const files = { 'tokenizer.json': tokenizerJson(['x', '</s>']), 'chat_template.jinja': '{{ 1 }}' };
    const from = copyTiny('mha', { eos_token_id: 2 }, files);
    const model = await loadModel(from);
    const to = fresh();
    await saveModel(to, model, { tokenizer: characterTokenizer('abc') });
    expect(existsSync(join(to, 'chat_template.jinja'))).toBe(false);
    const saved = await loadModel(to);
    expect(saved.endTokenIds).toEqual([]);
    expect(saved.tokenizer?.encode('cab')).toEqual([2, 0, 1]);
    // And the other way round.
    const again = fresh();
    await saveModel(again, saved, { tokenizer: model.tokenizer });
    expect(json(again, 'generation_config.json')).toMatchObject({ eos_token_id: 2 });
    expect(readFileSync(join(again, 'chat_template.jinja'), 'utf8')).toBe('{{ 1 }}');
    model.dispose();
    saved.dispose();
  });
});
