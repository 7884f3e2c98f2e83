/**
 * A tokenizer file can take neither unbounded time nor unbounded memory, nor silently give other ids than the
 * Rust library.
 */
import { describe, expect, test } from 'vitest';
import { Regex } from '../../src/text/regex.ts';
import { type TokenizerJson, tokenizerFromGguf, tokenizerFromJson } from '../../src/text/tokenizer.ts';
import { sentencePieceFixture } from './fixtures.ts';

const vocab = Object.fromEntries(['a', 'b', 'aa', 'aaaa', 'aaaaaaaa', ' '].map((text, id) => [text, id]));
const merges = [
  ['a', 'a'],
  ['aa', 'aa'],
  ['aaaa', 'aaaa'],
];

function file(changes: object = {}): TokenizerJson {
  return {
    model: { type: 'BPE', vocab, merges },
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    decoder: null,
    ...changes,
  } as TokenizerJson;
}

/** Seconds of processor time. */
function seconds(run: () => void): number {
  const start = process.cpuUsage();
  run();
  const { user, system } = process.cpuUsage(start);
  return (user + system) / 1e6;
}

describe('time', () => {
  test('a million letters in one run', () => {
    const tokenizer = tokenizerFromJson(file());
    let count = 0;
    // 0.3 s where this was written.
    expect(seconds(() => (count = tokenizer.encode('a'.repeat(1_000_003)).length))).toBeLessThan(3);
    expect(count).toBe(125_002);
    const gguf = tokenizerFromGguf(sentencePieceFixture().metadata);
    expect(seconds(() => gguf.encode('a'.repeat(1_000_000)))).toBeLessThan(6);
  });

  test.each([
    '(a+)+$',
    '(a|a)*b',
    '(?:a*a*)+?b|(a|aa)+c',
    '(?=(a+)+c)a',
    '(?=(?:aaa)+(?!a))',
    'a++b',
    '(?<!b)a{1,3}(?=(?:aaa)*b)',
  ])('the expression %s on 100,000 letters', (source) => {
    // Below 0.5 s each where this was written; years, or minutes, in a backtracking engine.
    if (source.includes('a*a*')) expect(() => new Regex(source)).toThrow('may be empty');
    else expect(seconds(() => new Regex(source).matches('a'.repeat(100_000)))).toBeLessThan(5);
  });

  test('a vocabulary of 262,144 tokens starts in a fraction of a second', () => {
    const tokens = [...'abcdefghijklmnop▁'];
    for (let i = 0; tokens.length < 262_144; i++) tokens.push(`${'▁'.repeat(i % 2)}${i.toString(36)}x`);
    const scores = Float32Array.from(tokens, (_, id) => -id);
    const metadata = new Map<string, string | string[] | Float32Array | Int32Array>([
      ['tokenizer.ggml.model', 'llama'],
      ['tokenizer.ggml.tokens', tokens],
      ['tokenizer.ggml.scores', scores],
      ['tokenizer.ggml.token_type', new Int32Array(tokens.length).fill(1)],
    ]);
    // 0.15 s where this was written, before it was 2.9 s.
    expect(seconds(() => tokenizerFromGguf(metadata).encode('abc'))).toBeLessThan(1.5);
  });
});

describe('memory', () => {
  const double = { type: 'Replace', pattern: { String: 'a' }, content: 'aa' };
  test('steps that double a text forty times stop with an error', () => {
    const normalizer = { type: 'Sequence', normalizers: Array.from({ length: 40 }, () => double) };
    expect(() => tokenizerFromJson(file({ normalizer })).encode('a')).toThrow(
      /1 characters into at most 1056, got/,
    );
    const decoder = { type: 'Sequence', decoders: Array.from({ length: 40 }, () => double) };
    const tokenizer = tokenizerFromJson(file({ decoder }));
    expect(() => tokenizer.decode([0])).toThrow(/at most/);
  });

  test('sequences in each other, and long lists of steps', () => {
    let nested: object = double;
    for (let i = 0; i < 5000; i++) nested = { type: 'Sequence', normalizers: [nested] };
    expect(() => tokenizerFromJson(file({ normalizer: nested }))).toThrow('at most 10 nested sequences');
    const normalizer = { type: 'Sequence', normalizers: Array.from({ length: 1000 }, () => double) };
    expect(() => tokenizerFromJson(file({ normalizer }))).toThrow('at most 100 normalizers, got 1000');
  });

  test.each(['('.repeat(10_000), '[['.repeat(5000), '(?:a{999}){999}', 'a{5000}'])(
    'the expression %.10s…',
    (source) => {
      expect(() => new Regex(source)).toThrow(RangeError);
    },
  );
});

describe('components and options that are not known are refused by name', () => {
  test.each<[object, string]>([
    [
      { normalizer: { type: 'Precompiled', precompiled_charsmap: '' } },
      'a normalizer among .*got "Precompiled"',
    ],
    [{ pre_tokenizer: { type: 'UnicodeScripts' } }, 'a pre-tokenizer among .*got "UnicodeScripts"'],
    [{ decoder: { type: 'CTC' } }, 'a decoder among .*got "CTC"'],
    [{ post_processor: { type: 'Other' } }, 'a post-processor among .*got "Other"'],
    [{ model: { type: 'Other', vocab } }, 'a model among .*got "Other"'],
    [{ model: { type: 'BPE', vocab, merges, dropout: 0.1 } }, 'without dropout.*got 0.1'],
    [{ model: { type: 'BPE', vocab, merges, new_option: 1 } }, 'options of BPE among .*got "new_option"'],
    [
      { model: { type: 'BPE', vocab, merges: [['a', 'z']] } },
      'merges whose parts are tokens, got \\["a","z"\\]',
    ],
    [
      { pre_tokenizer: { type: 'Split', pattern: { String: 'a' }, behavior: 'Other' } },
      "Split's behavior to be one of",
    ],
    [
      { pre_tokenizer: { type: 'Digits', individual_digits: true, other: 1 } },
      'options of Digits among individual_digits, got "other"',
    ],
    [{ pre_tokenizer: { type: 'Split', pattern: { Regex: '(a)\\1' } } }, 'without \\\\1 at'],
    [{ pre_tokenizer: { type: 'Split', pattern: { Regex: '(?i)a' } } }, 'without \\(\\?i\\) as a group'],
    [
      {
        normalizer: { type: 'Strip', strip_left: true },
        pre_tokenizer: { type: 'Metaspace', prepend_scheme: 'first' },
      },
      'whose prepend_scheme is first, got "Strip"',
    ],
    [
      {
        normalizer: { type: 'Replace', pattern: { Regex: '[aeiou]+' }, content: '<>' },
        pre_tokenizer: { type: 'Metaspace', prepend_scheme: 'first' },
      },
      'whose prepend_scheme is first, got "Replace"',
    ],
    [
      {
        normalizer: { type: 'Replace', pattern: { String: 'ab' }, content: 'x' },
        pre_tokenizer: { type: 'Metaspace', prepend_scheme: 'first' },
      },
      'whose prepend_scheme is first, got "Replace"',
    ],
    [
      { added_tokens: [{ id: 6, content: 'x'.repeat(2000), special: true }] },
      'at most 1024 characters, got 2000',
    ],
  ])('%j', (changes, message) => {
    expect(() => tokenizerFromJson(file(changes))).toThrow(new RegExp(`^tokenizer: expected .*${message}`));
  });

  test('an unknown word without an unknown token, and a merge that makes none, are errors', () => {
    const words = tokenizerFromJson(
      file({ model: { type: 'WordLevel', vocab: { a: 0 }, unk_token: '[UNK]' } }),
    );
    expect(() => words.encode('b')).toThrow('the unknown token to be in the vocabulary, got "[UNK]"');
    const broken = tokenizerFromJson(file({ model: { type: 'BPE', vocab, merges: [['a', 'b']] } }));
    expect(() => broken.encode('ab')).toThrow('every merge to make a token, got "ab"');
  });
});

test('add_bos_token and add_eos_token decide about bos and eos alone, each where it is given', () => {
  const ids = { '<s>': { ids: [6] }, '</s>': { ids: [7] }, '<g>': { ids: [8] } };
  const single = ['<g>', '<s>', undefined, '</s>'].map((id) =>
    id === undefined ? { Sequence: { id: 'A' } } : { SpecialToken: { id } },
  );
  const added_tokens = ['<s>', '</s>', '<g>'].map((content, i) => ({ id: 6 + i, content, special: true }));
  const json = file({
    added_tokens,
    post_processor: { type: 'TemplateProcessing', single, special_tokens: ids },
  });
  const encode = (config: object): number[] =>
    tokenizerFromJson(json, { bos_token: '<s>', eos_token: '</s>', ...config }).encode('b');
  expect(encode({})).toEqual([8, 6, 1, 7]);
  expect(encode({ add_bos_token: false })).toEqual([8, 1, 7]);
  expect(encode({ add_eos_token: false })).toEqual([8, 6, 1]);
  expect(encode({ add_bos_token: true, add_eos_token: true })).toEqual([8, 6, 1, 7]);
  const bare = tokenizerFromJson(
    { ...json, post_processor: null },
    { bos_token: '<s>', add_bos_token: true },
  );
  expect(bare.encode('b')).toEqual([6, 1]);
});
