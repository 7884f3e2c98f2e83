/** Attention weights, hidden states and embeddings against transformers (test/golden/looking-inside), and their rules. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { BackendName } from '../../src/backend/backend.ts';
import { scope, type Tensor } from '../../src/index.ts';
import { embed, loadModel, type Model } from '../../src/models/index.ts';
import { load } from '../nn/golden.ts';
import { BACKENDS, expectClose, GOLDEN, SMOLLM2 } from './golden.ts';

interface Case {
  readonly name: string;
  readonly attentions: number;
  readonly hiddenStates: number;
}

const read = (name: string) => JSON.parse(readFileSync(join(GOLDEN, `looking-inside/${name}.json`), 'utf8'));
const { cases, first } = read('tiny') as { cases: readonly Case[]; first: number };
const golden = load('looking-inside/tiny');
const BOTH = ['attentions', 'hiddenStates'] as const;
const TOLERANCE = 2e-5;
const T = 13;

const rowsOf = (name: string) => {
  const ids = Array.from(golden[`${name}/tokens`].values);
  return [ids.slice(0, T), ids.slice(T)];
};

/** Rows `[from, T)` and columns `[0, to)` of each head's weights, or rows of a hidden state. */
function part(
  { values, shape }: { values: ArrayLike<number>; shape: readonly number[] },
  from: number,
  to: number,
) {
  const width = shape[shape.length - 1];
  const height = shape[shape.length - 2];
  return Array.from(values).filter((_, i) => Math.floor(i / width) % height >= from && i % width < to);
}

describe.each(BACKENDS)('%s', (backend) => {
  describe.each(cases)('$name', ({ name, attentions: layers, hiddenStates: states }) => {
    let model: Model;
    beforeAll(async () => {
      model = await loadModel(join(GOLDEN, name), { backend });
    });
    afterAll(() => model.dispose());

    test('one pass gives the weights and hidden states', () => {
      const got = model.forward(rowsOf(name), { output: BOTH });
      expect([got.attentions.length, got.hiddenStates.length]).toEqual([layers, states]);
      for (const kind of BOTH) {
        got[kind].forEach((x, layer) => {
          const want = golden[`${name}/${kind}/${layer}`];
          expect(x.shape).toEqual(want.shape);
          expectClose(x.dataSync(), want.values, TOLERANCE, `${kind} ${layer}`);
        });
      }
      expect(got.logits.dataSync()).toEqual(model.forward(rowsOf(name)).dataSync());
    });

    test.each(['static', 'paged'] as const)('the last tokens behind a %s cache', (kind) => {
      const cache = model.initCache({ batchSize: 2, maxLength: T, kind });
      const rows = rowsOf(name);
      model
        .forward(
          rows.map((row) => row.slice(0, first)),
          { cache },
        )
        .dispose();
      const got = model.forward(
        rows.map((row) => row.slice(first)),
        { cache, output: BOTH, logits: 'last' },
      );
      for (const kind of BOTH) {
        got[kind].forEach((x, layer) => {
          const want = part(golden[`${name}/${kind}/${layer}`], first, Infinity);
          expectClose(x.dataSync(), want, TOLERANCE, `${kind} ${layer}`);
        });
      }
      cache.dispose();
    });

    test('rows of different lengths: each as alone, zeros past its end', () => {
      const [long, other] = rowsOf(name);
      const got = model.forward([long, other.slice(0, 5)], { output: BOTH });
      const alone = model.forward([other.slice(0, 5)], { output: BOTH });
      for (const kind of BOTH) {
        got[kind].forEach((x, layer) => {
          const shape = [...x.shape];
          const values = x.dataSync().slice(x.size / 2);
          const inside = alone[kind][layer];
          const columns = kind === 'attentions' ? 5 : shape[2];
          const kept = part({ values, shape }, 0, columns);
          const rows = kept.filter((_, i) => Math.floor(i / columns) % T < 5);
          expectClose(rows, inside.dataSync(), TOLERANCE, `${kind} ${layer}`);
          expect(part({ values, shape }, 5, Infinity).every((value) => value === 0)).toBe(true);
        });
      }
    });
  });
});

describe('rules', () => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(join(GOLDEN, 'tiny-llama/gqa-tied'), { backend: 'reference' });
  });
  afterAll(() => model.dispose());

  test('only what is named is there', () => {
    const keys = (output: readonly ('attentions' | 'hiddenStates')[]) =>
      Object.keys(model.forward([[1, 2]], { output }));
    expect(keys([])).toEqual(['logits']);
    expect(keys(['hiddenStates'])).toEqual(['logits', 'hiddenStates']);
    expect(keys(['attentions'])).toEqual(['logits', 'attentions']);
  });

  test('a scope around the call owns what it returns', () => {
    let made: readonly Tensor[] = [];
    scope(() => {
      const { logits, attentions, hiddenStates } = model.forward([[1, 2, 3]], { output: BOTH });
      made = [logits, ...attentions, ...hiddenStates];
    });
    expect(made.map(({ isDisposed }) => isDisposed)).toEqual(made.map(() => true));
  });

  test('what is refused', () => {
    const call = (output: unknown) => () => model.forward([[1]], { output: output as 'attentions'[] });
    expect(call('attentions')).toThrow(
      new TypeError('forward: expected output to be a list of names, got string'),
    );
    expect(call(['attention'])).toThrow(
      new RangeError(`forward: expected output of 'attentions' and 'hiddenStates', got "attention"`),
    );
    expect(call(new Array(1))).toThrow(
      "forward: expected output of 'attentions' and 'hiddenStates', got nothing",
    );
    expect(() => embed(undefined as never, ['a'])).toThrow(
      'embed: expected a model, such as loadModel gives, got undefined',
    );
    expect(() => embed(model, ['a'])).toThrow('embed: expected a model with a tokenizer, got one without');
    expect(() => embed(model, [])).toThrow(new RangeError('embed: expected at least one text, got none'));
    expect(() => embed(model, 'a' as never)).toThrow(
      new TypeError('embed: expected texts as a list of strings, got string'),
    );
    expect(() => embed(model, ['a'], { pooling: 'max' as never })).toThrow(
      new RangeError(`embed: expected pooling 'mean', 'last' or 'cls', got "max"`),
    );
  });
});

describe.skipIf(!SMOLLM2)('SmolLM2', () => {
  const want = load('looking-inside/smollm2');
  const { texts } = read('smollm2') as { texts: string[] };
  const every = (x: Tensor, step: number) => Array.from(x.dataSync()).filter((_, i) => i % step === 0);
  let model: Model;
  beforeAll(async () => {
    const fast = BACKENDS.find((name) => name !== 'reference') as BackendName;
    model = await loadModel(SMOLLM2 as string, { backend: fast });
  });
  afterAll(() => model.dispose());

  test('weights of the last token and the begin of its hidden states', () => {
    const tokens = Array.from(want.tokens.values);
    const { attentions, hiddenStates } = model.forward([tokens], { output: BOTH });
    const [n, D] = [tokens.length, model.config.hiddenSize];
    const lastWeights = attentions.flatMap((x) => part({ values: x.dataSync(), shape: x.shape }, n - 1, n));
    expectClose(lastWeights, want.attentions.values, 1e-4);
    const begins = hiddenStates.flatMap((x) => Array.from(x.dataSync().slice((n - 1) * D, (n - 1) * D + 16)));
    expectClose(begins, want.hiddenStates.values, 1e-4);
  });

  test.each(['mean', 'last', 'cls'] as const)('embeddings by %s', (pooling) => {
    const got = embed(model, texts, { pooling });
    expect(got.shape).toEqual([texts.length, model.config.hiddenSize]);
    expectClose(every(got, 4), want[pooling].values, 1e-4);
  });

  test('normalised embeddings', () => {
    expectClose(every(embed(model, texts, { normalize: true }), 4), want.normalized.values, 1e-5);
  });

  test('a text without tokens, one that is too long, and one that is missing are refused', () => {
    const rule = "embed: expected texts of 1 to 8192 tokens, the model's context";
    expect(() => embed(model, ['a', ''])).toThrow(new RangeError(`${rule}, got 0 in text 1`));
    expect(() => embed(model, ['a', 'b', ' a'.repeat(9000)])).toThrow(
      new RangeError(`${rule}, got 9000 in text 2`),
    );
    const sparse = ['a'];
    sparse[2] = 'b';
    expect(() => embed(model, sparse)).toThrow('embed: expected text 1 to be a string, got undefined');
  });
});
