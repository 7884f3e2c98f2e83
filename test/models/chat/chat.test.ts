/** `chat`: each answer is the one without a cache, each token is fed once, and nothing harms the history. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { chat, loadModel, type Model } from '../../../src/models/index.ts';
import { removeCheckpoints } from '../checkpoints.ts';
import { SMOLLM2 } from '../golden.ts';
import {
  backend,
  countFed,
  freshAnswer,
  loadTinyChat,
  PLAIN,
  SHORTENING,
  TEXT_ONLY,
  textOf,
} from './tiny-chat.ts';

afterAll(removeCheckpoints);

/** Short enough for many turns. */
const turn = { ...TEXT_ONLY, maxNewTokens: 9 };
const QUESTIONS = Array.from({ length: 10 }, (_, i) => `Is ${i * i} less than ${7 * i}?`);

describe('a template that keeps messages', () => {
  let model: Model;
  beforeAll(async () => {
    model = await loadTinyChat(PLAIN);
  });
  afterAll(() => model.dispose());

  test('ten turns feed each token once, and answer as without a cache', async () => {
    const answers: string[] = [];
    const messages = [{ role: 'system', content: 'Be kind.' }];
    for (const content of QUESTIONS) {
      messages.push({ role: 'user', content });
      const answer = await freshAnswer(model, messages, turn);
      messages.push({ role: 'assistant', content: answer });
      answers.push(answer);
    }
    const talk = chat(model, { system: 'Be kind.', ...turn });
    const fed = countFed(model);
    for (const [i, question] of QUESTIONS.entries()) {
      const before = talk.tokens.length;
      expect(await textOf(talk.send(question))).toBe(answers[i]);
      expect(talk.lastTurn).toMatchObject({ reusedTokens: before, newTokens: 9, finishReason: 'length' });
    }
    expect(talk.messages).toEqual(messages);
    expect(new Set(answers).size).toBeGreaterThan(1);
    // All but the last token of the last answer.
    const text = model.tokenizer?.applyChatTemplate(messages) ?? '';
    expect(talk.tokens).toEqual(model.tokenizer?.encode(text).slice(0, -2));
    expect([talk.fedTokens, fed()]).toEqual([talk.tokens.length, talk.tokens.length]);
    talk.dispose();
  });

  test('messages may be edited between turns', async () => {
    const talk = chat(model, turn);
    for (const question of QUESTIONS.slice(0, 3)) await textOf(talk.send(question));
    talk.messages.splice(2, 2);
    talk.messages[0] = { role: 'user', content: 'Is 0 more than 1?' };
    const answer = await textOf(talk.send('And now?'));
    expect(answer).toBe(await freshAnswer(model, talk.messages.slice(0, -1), turn));
    // The last answer again.
    talk.messages.pop();
    expect(await textOf(talk.send([]))).toBe(answer);
    const { reusedTokens, promptTokens } = talk.lastTurn ?? { reusedTokens: 0, promptTokens: 0 };
    expect(reusedTokens).toBe(promptTokens - 1);
    talk.dispose();
  });

  test('penalties see the tokens of the whole chat', async () => {
    const options = { ...turn, repetitionPenalty: 3, noRepeatNgramSize: 2 };
    const talk = chat(model, options);
    for (const question of QUESTIONS.slice(0, 3)) await textOf(talk.send(question));
    const wanted = await freshAnswer(model, talk.messages.slice(0, -1), options);
    expect(talk.messages.at(-1)?.content).toBe(wanted);
    expect(await freshAnswer(model, talk.messages.slice(0, -1), turn)).not.toBe(wanted);
    talk.dispose();
  });

  test('a seed gives the same chat, with other draws in each turn; a turn may have its own', async () => {
    const draw = { ...turn, temperature: 5 };
    const answers = async (seed: number) => {
      const talk = chat(model, { ...draw, seed });
      const texts = [await textOf(talk.send('a')), await textOf(talk.send('a'))];
      talk.dispose();
      return texts;
    };
    expect(await answers(1)).toEqual(await answers(1));
    expect(await answers(1)).not.toEqual(await answers(2));
    const talk = chat(model, { ...draw, seed: 1 });
    const user = { role: 'user', content: 'a' };
    expect(await textOf(talk.send('a'))).toBe(await freshAnswer(model, [user], { ...draw, seed: 2 }));
    talk.reset();
    expect(await textOf(talk.send('a', { seed: 9 }))).toBe(
      await freshAnswer(model, [user], { ...draw, seed: 9 }),
    );
    talk.dispose();
  });

  test('leaving the loop keeps what was said, and the chat goes on from it', async () => {
    const talk = chat(model, turn);
    let said = '';
    for await (const piece of talk.send('Tell me.')) {
      said += piece;
      if (said.length >= 4) break;
    }
    expect(talk.messages).toEqual([
      { role: 'user', content: 'Tell me.' },
      { role: 'assistant', content: said },
    ]);
    expect(talk.lastTurn).toMatchObject({ newTokens: 4, finishReason: 'aborted' });
    const held = talk.tokens.length;
    const next = await textOf(talk.send('Go on.'));
    expect(next).toBe(await freshAnswer(model, talk.messages.slice(0, -1), turn));
    expect(talk.lastTurn?.reusedTokens).toBe(held);
    talk.dispose();
  });

  test('an abort: with an answer begun it is kept, before it the history is as it was', async () => {
    const talk = chat(model, { ...turn, maxNewTokens: 30 });
    const stopping = new AbortController();
    const pieces = talk.send('One.', { signal: stopping.signal });
    const first = await pieces.next();
    stopping.abort(new Error('enough'));
    await expect(pieces.next()).rejects.toThrow('enough');
    expect(talk.messages.at(-1)).toEqual({ role: 'assistant', content: first.value });

    const messages = [...talk.messages];
    const early = new AbortController();
    // The prompt is fed in chunks; the abort comes after the first.
    const long = talk.send('x'.repeat(600), {
      signal: early.signal,
      onPrefill: () => early.abort(new Error('never mind')),
    });
    await expect(long.next()).rejects.toThrow('never mind');
    expect(talk.messages).toEqual(messages);
    expect(talk.tokens.length).toBe(talk.cache.lengths[0]);
    const next = await textOf(talk.send('Two.', { maxNewTokens: 9 }));
    expect(next).toBe(await freshAnswer(model, talk.messages.slice(0, -1), turn));
    talk.dispose();
  });

  test('an error in the middle keeps what was said', async () => {
    const talk = chat(model, turn);
    let calls = 0;
    const failing = () => {
      if (++calls === 3) throw new Error('no more');
    };
    const pieces = talk.send('One.', { logitsProcessors: [failing] });
    await expect(textOf(pieces)).rejects.toThrow('no more');
    expect([talk.messages.length, (talk.messages[1].content as string).length]).toEqual([2, 2]);
    expect(await textOf(talk.send('Two.'))).toBe(await freshAnswer(model, talk.messages.slice(0, -1), turn));
    talk.dispose();
  });

  test('a full cache: one error with the numbers, and the history as it was', async () => {
    const talk = chat(model, { ...TEXT_ONLY, maxLength: 60 });
    const answer = await textOf(talk.send('0123456789'));
    // <s>, "user: ", ten characters, </s>, <s>, "assistant: ": 30 tokens, and the last one needs no room.
    expect([answer.length, talk.lastTurn?.finishReason, talk.cache.lengths[0]]).toEqual([31, 'length', 60]);
    const messages = [...talk.messages];
    await expect(textOf(talk.send('And?'))).rejects.toThrow(
      new RangeError(
        'chat.send: expected messages of at most 60 tokens, got 86 in 3 messages; remove some, reset the chat, or make its cache larger',
      ),
    );
    expect([talk.messages, talk.cache.lengths[0]]).toEqual([messages, 60]);
    talk.messages.splice(0);
    expect(await textOf(talk.send('And?', { maxNewTokens: 9 }))).toBe(
      await freshAnswer(model, [{ role: 'user', content: 'And?' }], turn),
    );
    talk.dispose();
  });

  test('reset keeps the system message', async () => {
    const talk = chat(model, { ...turn, system: 'Hm.' });
    const first = await textOf(talk.send('a'));
    talk.reset();
    expect([talk.messages, talk.tokens, talk.fedTokens, talk.lastTurn]).toEqual([
      [{ role: 'system', content: 'Hm.' }],
      [],
      0,
      undefined,
    ]);
    expect(await textOf(talk.send('a'))).toBe(first);
    talk.dispose();
  });

  test('one answer at a time, and none after dispose', async () => {
    const talk = chat(model, turn);
    const open = talk.send('a');
    await open.next();
    await expect(talk.send('b').next()).rejects.toThrow(
      'chat.send: expected no answer under way, got one; read it to its end, or leave its loop',
    );
    expect(() => talk.reset()).toThrow('chat.reset: expected no answer under way');
    await open.return(undefined);
    await textOf(talk.send('b'));
    talk.dispose();
    talk.dispose();
    await expect(talk.send('c').next()).rejects.toThrow('chat.send: the chat was disposed');
  });

  test('a message, several, and what is none', async () => {
    const talk = chat(model, turn);
    await textOf(talk.send({ role: 'user', content: 'a' }));
    const results = [
      { role: 'tool', content: '1' },
      { role: 'tool', content: '2' },
    ];
    await textOf(talk.send(results));
    expect(talk.messages.map(({ role }) => role)).toEqual(['user', 'assistant', 'tool', 'tool', 'assistant']);
    for (const wrong of [undefined, 7, { content: 'a' }, ['a']]) {
      await expect(talk.send(wrong as never).next()).rejects.toThrow(
        'chat.send: expected a text, or messages',
      );
    }
    talk.dispose();
  });

  test('a given cache is used and left to the caller', async () => {
    const cache = model.initCache({ batchSize: 1, maxLength: 300, kind: 'paged', blockSize: 8 });
    const talk = chat(model, { ...turn, cache });
    await textOf(talk.send('a'));
    talk.dispose();
    expect(cache.lengths[0]).toBe(talk.tokens.length);
    const other = chat(model, { ...turn, cache: model.initCache({ batchSize: 1, maxLength: 300 }) });
    await textOf(other.send('a'));
    other.cache.reset();
    await expect(textOf(other.send('b'))).rejects.toThrow(
      `chat.send: expected a cache that nothing else changes, with ${other.tokens.length} tokens, got 0; reset`,
    );
    other.reset();
    await textOf(other.send('b'));
    other.cache.dispose();
    expect(() => chat(model, { cache })).toThrow('chat: expected an empty cache of 1 row, got 1 rows');
    cache.reset();
    expect(() => chat(model, { cache, maxLength: 10 })).toThrow(
      'chat: expected cache or maxLength, got both',
    );
    cache.dispose();
  });

  test('options out of range', () => {
    expect(() => chat(model, { maxLength: 2049 })).toThrow(
      "chat: expected maxLength up to the model's context of 2048 tokens, got 2049",
    );
    expect(() => chat(model, { maxNewTokens: 0 })).toThrow('chat: expected maxNewTokens to be a positive');
    expect(() => chat(model, { temperature: -1 })).toThrow('chat: expected temperature >= 0, got -1');
    expect(() => chat(model, { cache: {} as never })).toThrow('chat: expected cache to be a KeyValueCache');
    expect(() => chat(undefined as never)).toThrow('chat: expected a model, such as loadModel gives');
  });
});

test('an end token and a stop string end an answer; the token before is not fed again', async () => {
  const model = await loadTinyChat(PLAIN);
  const whole = chat(model, { ...TEXT_ONLY, maxNewTokens: 12 });
  const answer = await textOf(whole.send('a'));
  whole.dispose();

  const stopped = chat(model, { ...TEXT_ONLY, maxNewTokens: 12, stop: [answer.slice(6, 8)] });
  expect(await textOf(stopped.send('a'))).toBe(answer.slice(0, 6));
  expect(stopped.lastTurn).toMatchObject({ newTokens: 6, finishReason: 'stop' });
  stopped.dispose();

  const fed = countFed(model);
  const talk = chat(model, { ...TEXT_ONLY, maxNewTokens: 12 });
  for (let turns = 1; turns < 4; turns++) {
    let calls = 0;
    const ending = (logits: Float32Array) => {
      if (++calls === 7) logits[2] = 1000;
    };
    const said = await textOf(talk.send('a', { stop: [2], logitsProcessors: [ending] }));
    if (turns === 1) expect(said).toBe(answer.slice(0, 6));
    expect(talk.lastTurn).toMatchObject({ newTokens: 6, finishReason: 'stop' });
  }
  expect([talk.fedTokens, fed()]).toEqual([talk.tokens.length, talk.tokens.length]);
  talk.dispose();
  model.dispose();
});

describe('a template that shortens earlier answers', () => {
  test.each([
    ['static', {}],
    ['paged', { kind: 'paged', blockSize: 8 }],
    ['window', { kind: 'window', window: 24, sinks: 2 }],
  ] as const)('%s cache: answers as without it', async (name, kind) => {
    const model = await loadTinyChat(SHORTENING);
    const memory = { batchSize: 1, maxLength: 400, ...kind };
    const cache = model.initCache(memory);
    const talk = chat(model, { ...turn, cache });
    let reused = 0;
    for (const question of QUESTIONS.slice(0, 5)) {
      const answer = await textOf(talk.send(question));
      const own = model.initCache(memory);
      expect(answer).toBe(await freshAnswer(model, talk.messages.slice(0, -1), { ...turn, cache: own }));
      own.dispose();
      reused += talk.lastTurn?.reusedTokens ?? 0;
    }
    expect(talk.fedTokens).toBeGreaterThan(talk.tokens.length);
    // A ring has overwritten what comes before the answer, so it is fed again from the start.
    if (name === 'window') expect(reused).toBe(0);
    else expect(reused).toBeGreaterThan(50);
    talk.dispose();
    cache.dispose();
    model.dispose();
  });
});

test('a checkpoint without a chat template, and a template given', async () => {
  const model = await loadTinyChat(undefined);
  expect(() => chat(model)).toThrow(
    'chat: expected a checkpoint with a chat template, got one without; give a template, or use generateText',
  );
  const talk = chat(model, { ...turn, template: PLAIN });
  expect(await textOf(talk.send('a'))).toHaveLength(9);
  talk.dispose();
  model.dispose();
});

test('control tokens are left out of answers, unless asked for', async () => {
  const model = await loadTinyChat(PLAIN);
  const options = { logitBias: { 2: 50 }, maxNewTokens: 3, stop: [] };
  const bare = chat(model, options);
  expect(await textOf(bare.send('a'))).toBe('');
  expect(bare.messages.at(-1)).toEqual({ role: 'assistant', content: '' });
  const whole = chat(model, { ...options, skipSpecialTokens: false });
  expect(await textOf(whole.send('a'))).toBe('</s></s></s>');
  bare.dispose();
  whole.dispose();
  model.dispose();
});

test.skipIf(!SMOLLM2)('SmolLM2: ten turns feed each token once', async () => {
  const model = await loadModel(SMOLLM2!, { backend });
  const talk = chat(model, { maxNewTokens: 16, maxLength: 1024 });
  const fed = countFed(model);
  const questions = [
    'What is the capital of France?',
    'My name is Ada.',
    'And of Italy?',
    'Which river is there?',
    'Name a color.',
    'Name another one.',
    'What is two plus three?',
    'Which is larger, 7 or 9?',
    'What is my name?',
    'Thank you, and goodbye.',
  ];
  for (const question of questions) {
    const before = talk.tokens.length;
    await textOf(talk.send(question));
    expect(talk.lastTurn?.reusedTokens).toBe(before);
  }
  expect(talk.messages.length).toBe(20);
  expect(talk.messages[1].content).toContain('Paris');
  expect([talk.fedTokens, fed()]).toEqual([talk.tokens.length, talk.tokens.length]);
  talk.dispose();
  model.dispose();
});
