/**
 * Blocks and windows begin as the tokenizer begins a text, in eval, training, uptraining and the drift
 * report.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { convertCheckpoint, measureDrift } from '../../src/convert/index.ts';
import { setBackend } from '../../src/index.ts';
import { type ForwardOptions, loadModel, type Tokens } from '../../src/models/index.ts';
import { documentStart } from '../../src/text/documents.ts';
import { causalLmLoss, drawBatch, evaluateTokens, splitTokens } from '../../src/train/index.ts';
import { prepareUptraining } from '../../src/train/uptrain.ts';
import { freshPath, removeFolders } from '../convert/folders.ts';
import { copyTiny, removeCheckpoints, tokenizerJson } from '../models/checkpoints.ts';
import { backends } from '../ops/backends.ts';

const BOS = 1;
const letters = Array.from({ length: 61 }, (_, id) =>
  id === BOS ? '<s>' : id < 32 ? String.fromCharCode(97 + ((id - 2) % 26)) + (id < 28 ? '' : id) : `<${id}>`,
);
/** A tokenizer whose template begins with bos, or not. */
function tokenizerFile(addsBos: boolean): string {
  const piece = { Sequence: { id: 'A', type_id: 0 } };
  const bos = { SpecialToken: { id: '<s>', type_id: 0 } };
  const single = addsBos ? [bos, piece] : [piece];
  return JSON.stringify({
    ...JSON.parse(tokenizerJson(letters)),
    added_tokens: [{ id: BOS, content: '<s>', special: true }],
    post_processor: {
      ...{ type: 'TemplateProcessing', single, pair: single },
      special_tokens: { '<s>': { id: '<s>', ids: [BOS], tokens: ['<s>'] } },
    },
  });
}
const text = 'thequickbrownfoxjumpsoverthelazydogandsoon'.repeat(4);

beforeAll(() => setBackend(backends.some(({ name }) => name === 'native') ? 'native' : 'wasm'));
afterAll(() => {
  removeCheckpoints();
  removeFolders();
});

/** Llama 2 and 3, Mistral, Gemma and DeepSeek were trained with bos in front; the others were not. */
describe.each([
  ['tiny-llama/gqa-tied', true],
  ['tiny-mistral/plain', true],
  ['tiny-gemma2/plain', true],
  ['tiny-gemma3/plain', true],
  ['tiny-deepseek/v3', true],
  ['tiny-qwen3/plain', false],
  ['tiny-phi3/plain', false],
])('%s', (name, addsBos) => {
  const start = addsBos ? [BOS] : [];
  const folder = () => copyTiny(name, {}, { 'tokenizer.json': tokenizerFile(addsBos) });

  test('eval: every window begins so, and every token behind it is predicted', async () => {
    const model = await loadModel(folder());
    expect(documentStart(model.tokenizer!)).toEqual(start);
    const tokens = model.tokenizer!.encode(text, { addSpecialTokens: false });
    const [context, n] = [10, tokens.length];
    const { loss, predicted } = evaluateTokens(model, tokens, { context, start });
    let want = 0;
    for (let at = 0; at < n; at += context) {
      const row = addsBos ? [BOS, ...tokens.slice(at, at + context)] : tokens.slice(at, at + context + 1);
      if (row.length < 2) continue;
      const part = causalLmLoss(model, [row]);
      want += part.dataSync()[0] * (row.length - 1);
      part.dispose();
    }
    expect(predicted).toBe(addsBos ? n : n - 1);
    expect(loss).toBeCloseTo(want / predicted, 5);
    // A single token has its bos to be predicted from.
    const one = () => evaluateTokens(model, tokens.slice(0, 1), { context, start });
    if (addsBos) expect(one().predicted).toBe(1);
    else expect(one).toThrow(new RangeError('expected a text of at least 2 tokens, got 1'));
    model.dispose();
  });
});

describe.each([true, false])('a tokenizer that adds bos: %s', (addsBos) => {
  const start = addsBos ? [BOS] : [];

  test('the drift of a conversion is measured on the windows of eval', async () => {
    const from = copyTiny('convert/llama', {}, { 'tokenizer.json': tokenizerFile(addsBos) });
    const to = freshPath('out');
    const result = await convertCheckpoint({ from, to, numKeyValueHeads: 3, method: 'mean' });
    const { before, after, predicted } = await measureDrift({
      ...{ from, to, result, text, window: 24, windows: 99 },
    });
    for (const [path, side] of [
      [from, before],
      [to, after],
    ] as const) {
      const model = await loadModel(path);
      const tokens = model.tokenizer!.encode(text, { addSpecialTokens: false });
      const want = evaluateTokens(model, tokens, { context: 23, start });
      expect(side.loss).toBeCloseTo(want.loss, 4);
      expect(predicted).toBe(want.predicted);
      model.dispose();
    }
  });

  test('uptraining: every block begins so, and a run goes on only with the same beginning', async () => {
    const from = copyTiny('tiny-llama/gqa-tied', {}, { 'tokenizer.json': tokenizerFile(addsBos) });
    const run = await prepareUptraining({
      from,
      text,
      steps: 2,
      batchSize: 3,
      blockLength: 8,
      out: freshPath('run'),
    });
    expect(run.data.start ?? []).toEqual(start);
    expect(run.place?.identity.blockStart).toBe(addsBos ? '1' : '');
    const { model } = run.trainer;
    const forward = model.forward.bind(model);
    const seen: number[][] = [];
    const counted = (tokens: Tokens, options?: ForwardOptions) => {
      seen.push(...(tokens as number[][]));
      return forward(tokens, options);
    };
    Object.assign(model, { forward: counted });
    run.trainer.advance();
    run.trainer.evaluate('validation');
    expect(seen.length).toBe(3 + 3 * run.settings.evaluationBatches);
    for (const row of seen) expect(row[0] === BOS).toBe(addsBos);
    for (const row of seen) expect(row.slice(1)).not.toContain(BOS);
    model.dispose();
  });
});

test('blocks with a start come from every place of the text', () => {
  const tokens = Int32Array.from({ length: 12 }, (_, i) => 100 + i);
  const { train } = splitTokens(tokens, 3, 0.4, [7, 8]);
  const options = { ...{ batchSize: 400, blockLength: 3, seed: 1, index: 0 }, stream: 'train' as const };
  const blocks = drawBatch(train, { ...options, start: [7, 8] });
  expect(new Set(blocks.map(String))).toEqual(
    new Set(Array.from({ length: 6 }, (_, i) => `7,8,${100 + i},${101 + i}`)),
  );
  expect(() => drawBatch(train, { ...options, start: [1, 2, 3, 4] })).toThrow(
    new RangeError('drawBatch: expected blocks longer than their start of 4 tokens, got 3'),
  );
});
