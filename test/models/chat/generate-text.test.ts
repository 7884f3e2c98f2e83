/** `generateText`: its text is that of `generate`'s tokens. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  type ForwardOptions,
  generateText,
  loadModel,
  type Model,
  type Tokens,
} from '../../../src/models/index.ts';
import { tinyTokenizer } from '../../cli/tiny-checkpoint.ts';
import { copyTiny, removeCheckpoints, tokenizerJson } from '../checkpoints.ts';
import { collect } from '../golden.ts';
import { backend, loadTinyChat, textOf, tinyFolder } from './tiny-chat.ts';

afterAll(removeCheckpoints);

describe('text of characters', () => {
  let model: Model;
  beforeAll(async () => {
    model = await loadTinyChat(undefined);
  });
  afterAll(() => model.dispose());
  const encode = (text: string) => model.tokenizer?.encode(text) ?? [];
  const options = { temperature: 1, seed: 3, maxNewTokens: 60 };

  test('is decode of all tokens, with and without control tokens', async () => {
    const tokens = await collect(model, encode('abc'), { ...options, stop: [] });
    for (const skipSpecialTokens of [true, false]) {
      const text = await textOf(generateText(model, 'abc', { ...options, stop: [], skipSpecialTokens }));
      expect(text).toBe(model.tokenizer?.decode(tokens, { skipSpecialTokens }));
    }
    expect(await textOf(generateText(model, 'abc', { ...options, stop: [] }))).not.toContain('<s>');
    const all = generateText(model, 'abc', { ...options, stop: [], skipSpecialTokens: false });
    expect(await textOf(all)).toMatch(/<s>|<unk>|<\/s>/);
  });

  test('ends before a stop string, of which no part is yielded', async () => {
    const whole = await textOf(generateText(model, 'abc', { ...options, stop: [] }));
    for (const [from, to] of [
      [10, 12],
      [5, 9],
      [20, 21],
    ]) {
      const stop = whole.slice(from, to);
      const pieces: string[] = [];
      for await (const piece of generateText(model, 'abc', { ...options, stop: [stop] })) pieces.push(piece);
      expect(pieces.join('')).toBe(whole.slice(0, whole.indexOf(stop)));
      expect(pieces).not.toContain('');
    }
  });

  test('an abort throws its reason', async () => {
    const stopping = new AbortController();
    const pieces = generateText(model, 'abc', { ...options, stop: [], signal: stopping.signal });
    await pieces.next();
    stopping.abort(new Error('enough'));
    await expect(textOf(pieces)).rejects.toThrow('enough');
  });

  test('a wrong prompt', async () => {
    await expect(generateText(model, [1] as never).next()).rejects.toThrow(
      'generateText: expected a prompt to be a string, got an array of 1',
    );
    await expect(generateText(model, '').next()).rejects.toThrow(RangeError);
  });
});

test('characters of several tokens come whole', async () => {
  // The byte-level letters of the bytes of é, 中 and 🙂, and some ASCII.
  const bytes = [...'Ã©ä¸ŃðŁĻĤ'];
  const vocab = [...bytes, ...Array.from({ length: 97 - bytes.length }, (_, i) => `<${i}>`)];
  const model = await loadModel(copyTiny('gqa-tied', {}, { 'tokenizer.json': tokenizerJson(vocab) }), {
    backend,
  });
  const text = 'é中🙂é';
  const wanted = model.tokenizer?.encode(text) ?? [];
  expect(wanted.length).toBe(2 + 3 + 4 + 2);
  let made = 0;
  const forced = (logits: Float32Array) => {
    logits.fill(-Infinity);
    logits[wanted[made++]] = 0;
  };
  const pieces: string[] = [];
  const options = { maxNewTokens: wanted.length, stop: [], logitsProcessors: [forced] };
  for await (const piece of generateText(model, 'é', options)) pieces.push(piece);
  expect(pieces).toEqual([...text]);
  model.dispose();
});

test('addSpecialTokens: the bos before the prompt', async () => {
  const folder = tinyFolder(undefined);
  const beginning = {
    type: 'TemplateProcessing',
    single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
    pair: [],
    special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
  };
  const tokenizer = JSON.stringify({ ...tinyTokenizer, post_processor: beginning });
  writeFileSync(join(folder, 'tokenizer.json'), tokenizer);
  const model = await loadModel(folder, { backend });
  const seen: number[][] = [];
  const forward = model.forward.bind(model);
  const counted = (tokens: Tokens, options?: ForwardOptions) => {
    seen.push([...(tokens as number[][])[0]]);
    return forward(tokens, options);
  };
  Object.assign(model, { forward: counted });
  const plain = model.tokenizer?.encode('ab', { addSpecialTokens: false }) ?? [];
  expect(plain.length).toBe(2);
  await textOf(generateText(model, 'ab', { maxNewTokens: 1 }));
  await textOf(generateText(model, 'ab', { maxNewTokens: 1, addSpecialTokens: false }));
  expect(seen).toEqual([[1, ...plain], plain]);
  model.dispose();
});

test('a model without a tokenizer', async () => {
  const model = await loadModel(copyTiny('gqa-tied'), { backend });
  await expect(generateText(model, 'a').next()).rejects.toThrow(
    'generateText: expected a model with a tokenizer, got one without; generate takes token ids',
  );
  model.dispose();
});
