/** Saved chats: the same tokens after loading, also in another process, and what is refused. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MemoryFolder } from '../../../src/files/memory-folder.ts';
import { FormatError } from '../../../src/format/format-error.ts';
import {
  type Chat,
  chat,
  loadChat,
  loadModel,
  type Model,
  TemplateFloat,
} from '../../../src/models/index.ts';
import { removeCheckpoints } from '../checkpoints.ts';
import { backend, PLAIN, TEXT_ONLY, textOf, tinyFolder } from './tiny-chat.ts';

const dist = fileURLToPath(new URL('../../../dist/models/index.js', import.meta.url));
const options = { ...TEXT_ONLY, maxNewTokens: 12, temperature: 2, topK: 20, repetitionPenalty: 1.3, seed: 5 };

let folder: string;
let checkpoint: string;
let model: Model;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'gqa-chat-'));
  checkpoint = tinyFolder(PLAIN);
  model = await loadModel(checkpoint, { backend });
});
afterAll(() => {
  model.dispose();
  rmSync(folder, { recursive: true });
  removeCheckpoints();
});

const twoTurns = async (): Promise<Chat> => {
  const talk = chat(model, { ...options, system: 'Hm.' });
  for (const text of ['One?', 'Two?']) await textOf(talk.send(text));
  return talk;
};

test.each([true, false])('another process goes on with the same tokens; cache: %s', async (cache) => {
  const talk = await twoTurns();
  const held = talk.tokens.length;
  const place = join(folder, 'new', `talk-${cache}`);
  await talk.save(place, { cache });
  const wanted = [await textOf(talk.send('Three?')), await textOf(talk.send('Four?'))];
  const program = `
    import { loadChat, loadModel } from ${JSON.stringify(pathToFileURL(dist).href)};
    const model = await loadModel(${JSON.stringify(checkpoint)}, { backend: ${JSON.stringify(backend)} });
    const talk = await loadChat(model, ${JSON.stringify(place)});
    const answers = [];
    for (const text of ['Three?', 'Four?']) {
      let answer = '';
      for await (const piece of talk.send(text)) answer += piece;
      answers.push(answer);
    }
    console.log(JSON.stringify({ answers, tokens: talk.tokens, messages: talk.messages, fed: talk.fedTokens }));
  `;
  const child = spawnSync(process.execPath, ['--input-type=module', '--eval', program], { encoding: 'utf8' });
  expect(child.stderr).toBe('');
  const { messages, tokens } = talk;
  expect(JSON.parse(child.stdout)).toEqual({
    answers: wanted,
    tokens,
    messages,
    fed: tokens.length - (cache ? held : 0),
  });
  talk.dispose();
});

test('a folder in memory; options of loadChat replace the saved ones', async () => {
  const talk = await twoTurns();
  const place = new MemoryFolder();
  await talk.save(place);
  const [same, other] = [await loadChat(model, place), await loadChat(model, place, { seed: 6 })];
  const next = await textOf(talk.send('Three?'));
  expect(await textOf(same.send('Three?'))).toBe(next);
  expect(await textOf(other.send('Three?'))).not.toBe(next);
  const cache = model.initCache({ batchSize: 1, maxLength: 200 });
  const own = await loadChat(model, place, { cache });
  expect(await textOf(own.send('Three?'))).toBe(next);
  // Saved again it replaces what was there.
  await same.save(place);
  expect((await loadChat(model, place)).messages).toEqual(same.messages);
  for (const one of [talk, same, other, own]) one.dispose();
  cache.dispose();
});

test('numbers of the template stay ints and floats; excluded tokens stay so', async () => {
  const template = '{{ tools }}{{ values }}{{ messages[0].content }}';
  const content = [{ type: 'number', value: new TemplateFloat(3) }];
  const talk = chat(model, {
    template,
    tools: [{ limit: new TemplateFloat(1), big: 12345678901234567890n, share: 0.25, none: null, n: 2 }],
    variables: { values: [new TemplateFloat(1e21), 1, 'a"\n'] },
    logitBias: { 5: Number.NEGATIVE_INFINITY, 6: 1.5 },
    maxNewTokens: 3,
  });
  await textOf(talk.send({ role: 'user', content }));
  const place = new MemoryFolder();
  await talk.save(place);
  const again = await loadChat(model, place);
  await textOf(again.send([]));
  // What is rendered of them is in the tokens of the prompt.
  const text = model.tokenizer?.decode([...again.tokens]);
  expect(text).toContain("{'limit': 1.0, 'big': 12345678901234567890, 'share': 0.25, 'none': None, 'n': 2}");
  expect(text).toContain("[1e+21, 1, 'a\"\\n']");
  expect(text).toContain("'value': 3.0");
  const file = await place.open('chat.json');
  const saved = JSON.parse(new TextDecoder().decode(await file?.read(0, file.size)));
  expect(saved.options.logitBias).toEqual({ 5: Number.NEGATIVE_INFINITY, 6: 1.5 });
  talk.dispose();
  again.dispose();
});

test('a saved cache is of the chat, and of the model', async () => {
  const talk = await twoTurns();
  const place = new MemoryFolder();
  await talk.save(place);
  const again = await loadChat(model, place, { maxNewTokens: 5 });
  expect([again.tokens, again.cache.maxLength, again.fedTokens]).toEqual([talk.tokens, 2048, 0]);
  await textOf(again.send('Three?'));
  expect(again.lastTurn).toMatchObject({ reusedTokens: talk.tokens.length, newTokens: 5 });
  const smaller = await loadChat(model, place, { maxLength: 300 });
  expect([smaller.tokens, smaller.cache.maxLength]).toEqual([[], 300]);

  const other = new MemoryFolder();
  await chat(model, options).save(other);
  const file = await other.open('cache.safetensors');
  await place.write('cache.safetensors', (await file?.read(0, file.size)) ?? '');
  await expect(loadChat(model, place)).rejects.toThrow(
    `memory/cache.safetensors: expected a cache of 1 row of ${talk.tokens.length} tokens, got 1 rows, the first of 0`,
  );
  // Saved without its cache, the folder keeps no older one.
  await talk.save(place, { cache: false });
  expect((await place.list()).map(({ name }) => name)).toEqual(['chat.json']);
  for (const one of [talk, again, smaller]) one.dispose();
});

describe('what is no saved chat', () => {
  test.each([
    ['{', 'expected JSON, got: '],
    ['null', 'expected gqaChat 1, got nothing'],
    ['{"gqaChat":2}', 'expected gqaChat 1, got 2'],
    ['{"gqaChat":1,"options":{}}', 'expected messages to be a list of objects with a role'],
    ['{"gqaChat":1,"messages":[{}],"options":{}}', 'expected messages to be a list of objects with a role'],
    ['{"gqaChat":1,"messages":[]}', 'loadChat: expected an object of options, got undefined'],
    [
      '{"gqaChat":1,"messages":[],"options":{"topK":"a"}}',
      'loadChat: expected topK to be a number, got string',
    ],
    ['{"gqaChat":1,"messages":[],"options":{"cache":{}}}', 'loadChat: expected known options, got cache'],
    ['{"gqaChat":1,"messages":[],"options":{"top_k":1}}', 'got top_k; did you mean topK?'],
    ['{"gqaChat":1,"messages":[],"options":{},"tokens":["a"]}', 'expected tokens to be a list of numbers'],
  ])('%s', async (text, message) => {
    writeFileSync(join(folder, 'chat.json'), text);
    const loading = loadChat(model, folder);
    await expect(loading).rejects.toThrow(FormatError);
    await expect(loading).rejects.toThrow(`${join(folder, 'chat.json')}: `);
    await expect(loading).rejects.toThrow(message);
  });

  test('no file, no place', async () => {
    await expect(loadChat(model, join(folder, 'none'))).rejects.toThrow(
      `${join(folder, 'none', 'chat.json')}: expected a saved chat, got no such file`,
    );
    await expect(loadChat(model, '')).rejects.toThrow(TypeError);
    const talk = chat(model);
    await expect(talk.save('')).rejects.toThrow(
      'chat.save: expected a path of a folder, got an empty string',
    );
    talk.dispose();
  });
});
