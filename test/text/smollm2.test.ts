/**
 * The real vocabulary against transformers and llama.cpp: ids of hard strings, decoded texts, chat prompts.
 */
import { readFileSync } from 'node:fs';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type ChatMessage, type Tokenizer, tokenizerFromGguf } from '../../src/text/tokenizer.ts';
import { type Metadata, modelMetadata, noModel } from './fixtures.ts';

interface Golden {
  readonly controlTokens: Readonly<Record<string, string>>;
  readonly strings: readonly { text: string; ids: number[]; decoded: string; decodedSkipSpecial: string }[];
  readonly chats: readonly {
    name: string;
    messages: ChatMessage[];
    addGenerationPrompt: boolean;
    text: string;
    ids: number[];
  }[];
}

const golden = JSON.parse(
  readFileSync(new URL('../golden/smollm2/tokens.json', import.meta.url), 'utf8'),
) as Golden;

describe('SmolLM2-135M-Instruct', () => {
  let metadata: Metadata;
  let tokenizer: Tokenizer;

  beforeAll(async () => {
    if (noModel !== undefined) return;
    metadata = new Map(await modelMetadata());
    tokenizer = tokenizerFromGguf(metadata);
  });
  beforeEach((context) => {
    if (noModel !== undefined) context.skip(noModel);
  });

  test('vocabulary and special tokens', () => {
    expect(tokenizer.vocabSize).toBe(49152);
    expect(tokenizer.bosTokenId).toBe(1);
    expect(tokenizer.eosTokenIds).toEqual([2, 0, 4]);
    for (const [id, text] of Object.entries(golden.controlTokens)) {
      expect(tokenizer.encode(text)).toEqual([Number(id)]);
      expect(tokenizer.isSpecial(Number(id))).toBe(true);
    }
    expect(tokenizer.isSpecial(17)).toBe(false);
  });

  test.each(golden.strings)('encode $text', ({ text, ids }) => {
    expect(tokenizer.encode(text)).toEqual(ids);
  });

  test.each(golden.strings)('decode $text', ({ ids, decoded, decodedSkipSpecial }) => {
    expect(tokenizer.decode(ids)).toBe(decoded);
    expect(tokenizer.decode(ids, { skipSpecialTokens: true })).toBe(decodedSkipSpecial);
  });

  test.each(golden.chats)('chat $name', ({ messages, addGenerationPrompt, text, ids }) => {
    const prompt = tokenizer.applyChatTemplate(messages, { addGenerationPrompt });
    expect(prompt).toBe(text);
    expect(tokenizer.encode(prompt, { addSpecialTokens: false })).toEqual(ids);
  });

  test('is made in less than 250 ms', () => {
    // Of processor time: other tests run beside this one.
    const times = Array.from({ length: 5 }, () => {
      const before = process.cpuUsage();
      tokenizerFromGguf(metadata);
      return process.cpuUsage(before).user / 1000;
    });
    expect(Math.min(...times)).toBeLessThan(250);
  });
});
