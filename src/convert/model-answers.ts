/**
 * How a model answers on held-out texts: greedy continuations, and cloze questions. A model can be close in
 * loss and far behind in what it writes, so a conversion is judged by both.
 *
 * Sources: cloze of a sentence's last word, Paperno et al. 2016, LAMBADA (arXiv 1606.06031), scored as in
 * EleutherAI's lm-evaluation-harness; repetition, Welleck et al. 2020 (arXiv 1908.04319), seq-rep-4.
 */

import { generateBatch } from '../models/generation/generate-batch.ts';
import { Model, type ModelParts } from '../models/model.ts';
import { eventLoopTurn } from '../tensor/event-loop.ts';
import { documentStart } from '../text/documents.ts';
import type { Tokenizer } from '../text/tokenizer.ts';

/** Prompts, at most, and tokens of each. */
const PROMPTS = 64;
const PROMPT_TOKENS = 32;
/** Tokens of a continuation. */
export const CONTINUATION_TOKENS = 32;
/** Cloze questions, at most. */
const QUESTIONS = 64;
/** Characters of the text before a question's sentence that the model reads too. */
const CONTEXT_CHARACTERS = 400;

/** What a model is asked. */
export interface Questions {
  /** Token ids of each prompt. */
  readonly prompts: readonly (readonly number[])[];
  /** Token ids of a text up to the last word of a sentence, that word included. */
  readonly cloze: readonly { readonly tokens: readonly number[]; readonly wordLength: number }[];
}

/** What a model answered. */
export interface Answers {
  /** Greedy continuations of the prompts. */
  readonly continuations: readonly (readonly number[])[];
  /** Whether each cloze question's word is the model's likeliest continuation, token by token. */
  readonly cloze: readonly boolean[];
}

/** Two models' answers, side by side. */
export interface AnswerDrift {
  /** Greedy continuations of 32 tokens. */
  readonly generation: {
    /** Continuations. */
    readonly prompts: number;
    /** Mean number of tokens that are the same from the start on, 0 to 32. */
    readonly agreement: number;
    /** Mean share of 4-grams of a continuation that are repeated ones (seq-rep-4), 0 to 1. */
    readonly repetition: { readonly before: number; readonly after: number };
  };
  /** Last words of sentences. */
  readonly cloze: {
    /** Sentences; 0 where a text has none, such as one of another language. */
    readonly questions: number;
    /** Share of words found; NaN without questions. */
    readonly accuracy: { readonly before: number; readonly after: number };
  };
}

/**
 * Prompts and cloze questions from texts, evenly from each.
 * @param maxTokens the most tokens that the models take
 */
export function questionsFrom(
  tokenizer: Tokenizer,
  texts: readonly string[],
  maxTokens: number = Number.POSITIVE_INFINITY,
): Questions {
  const start = documentStart(tokenizer);
  const encode = (text: string) => tokenizer.encode(text, { addSpecialTokens: false });
  const share = (total: number) => Math.ceil(total / texts.length);
  const prompts = texts.flatMap((text) => {
    const tokens = encode(text);
    const length = Math.max(1, Math.min(PROMPT_TOKENS, maxTokens - CONTINUATION_TOKENS) - start.length);
    const count = Math.min(share(PROMPTS), Math.floor(tokens.length / length));
    return spread(tokens.length - length + 1, count).map((at) => [
      ...start,
      ...tokens.slice(at, at + length),
    ]);
  });
  const cloze = texts.flatMap((text) => {
    const found = clozeQuestions(text).flatMap(({ context, word }) => {
      const [before, whole] = [encode(context), encode(`${context} ${word}`)];
      if (before.length === 0 || before.some((id, i) => whole[i] !== id)) return [];
      const kept = whole.slice(Math.max(0, whole.length + start.length - maxTokens));
      return [{ tokens: [...start, ...kept], wordLength: whole.length - before.length }];
    });
    return spread(found.length, Math.min(share(QUESTIONS), found.length)).map((at) => found[at]);
  });
  return { prompts: prompts.slice(0, PROMPTS), cloze: cloze.slice(0, QUESTIONS) };
}

/** `count` whole numbers below `size`, evenly spread. */
function spread(size: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => Math.floor((i * size) / count));
}

/** Sentences of at least eight words that end in a word of four letters or more, and the text before it. */
function clozeQuestions(text: string): { context: string; word: string }[] {
  const sentence = /(?:[A-Za-z][A-Za-z'-]*[,;:]? ){7,}([a-z]{4,})[.!?]/g;
  return [...text.matchAll(sentence)].map(({ index, 0: { length }, 1: word }) => {
    const end = index + length - 1 - word.length - 1; // before the space
    const from = text.lastIndexOf(' ', Math.max(0, end - CONTEXT_CHARACTERS)) + 1;
    return { context: text.slice(from, end), word };
  });
}

/** @param onAnswer called once for each question */
export async function answer(
  model: Model,
  { prompts, cloze }: Questions,
  onAnswer: () => void = () => {},
): Promise<Answers> {
  const continuations: (readonly number[])[] = [];
  for (let at = 0; at < prompts.length; at += ROWS) {
    const batch = prompts.slice(at, at + ROWS);
    const results = await generateBatch(model, batch, { maxNewTokens: CONTINUATION_TOKENS, stop: [] });
    continuations.push(...results.map(([{ tokens }]) => tokens));
    for (const _ of batch) onAnswer();
  }
  const found: boolean[] = [];
  for (const { tokens, wordLength } of cloze) {
    found.push(isFound(model, tokens, wordLength));
    onAnswer();
    await eventLoopTurn();
  }
  return { continuations, cloze: found };
}

/** Prompts per call, so that progress is reported in between. */
const ROWS = 16;

function isFound(model: Model, tokens: readonly number[], wordLength: number): boolean {
  const logits = model.forward([tokens.slice(0, -1)]);
  try {
    const all = logits.dataSync();
    const V = model.config.vocabSize;
    const first = tokens.length - 1 - wordLength;
    return tokens.slice(-wordLength).every((id, i) => {
      const row = all.subarray((first + i) * V, (first + i + 1) * V);
      return row.every((logit) => logit <= row[id]);
    });
  } finally {
    logits.dispose();
  }
}

/** Asks two models, whose weights stay the caller's. */
export async function answerDrift(
  before: ModelParts,
  after: ModelParts,
  questions: Questions,
  onAnswer: () => void,
): Promise<AnswerDrift> {
  const answers = await answer(new Model(before), questions, onAnswer);
  return compareAnswers(answers, await answer(new Model(after), questions, onAnswer));
}

/** @param before,after answers to the same questions */
export function compareAnswers(before: Answers, after: Answers): AnswerDrift {
  const same = before.continuations.map((tokens, i) => {
    const other = after.continuations[i];
    const at = tokens.findIndex((id, j) => id !== other[j]);
    return at < 0 ? tokens.length : at;
  });
  const both = (measure: (answers: Answers) => number) => ({
    before: measure(before),
    after: measure(after),
  });
  return {
    generation: {
      prompts: same.length,
      agreement: mean(same),
      repetition: both(({ continuations }) => mean(continuations.map(repetition))),
    },
    cloze: {
      questions: before.cloze.length,
      accuracy: both(({ cloze }) => mean(cloze.map(Number))),
    },
  };
}

/** 1 - distinct 4-grams / 4-grams. */
function repetition(tokens: readonly number[]): number {
  const grams = tokens.slice(3).map((_, i) => tokens.slice(i, i + 4).join(' '));
  return grams.length === 0 ? 0 : 1 - new Set(grams).size / grams.length;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
