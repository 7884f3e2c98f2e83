/** SmolLM2-135M-Instruct, as shipped (Q4_1 GGUF), against transformers on the dequantised weights. */
import { closeSync, copyFileSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadModel, type Model } from '../../src/models/index.ts';
import { BACKENDS, collect, expectClose, Golden, SMOLLM2 } from './golden.ts';

/**
 * Weights are read as they are stored and computed with in f32, so logits agree to rounding and its growth
 * over 30 layers.
 */
const TOLERANCE = 2e-3;
const FAST = BACKENDS.filter((name) => name !== 'reference');

describe.skipIf(!SMOLLM2 || FAST.length === 0).each(FAST)('SmolLM2 on %s', (backend) => {
  let model: Model;
  let golden: Golden;
  beforeAll(async () => {
    golden = await Golden.open('smollm2');
    model = await loadModel(SMOLLM2!, { backend });
  });
  afterAll(() => model?.dispose());

  test('what the header says', () => {
    expect(model.config).toMatchObject({
      vocabSize: 49152,
      hiddenSize: 576,
      numLayers: 30,
      numHeads: 9,
      numKeyValueHeads: 3,
      headDim: 64,
      intermediateSize: 1536,
      tiedEmbeddings: true,
      rope: { interleaved: true, rotaryDim: 64 },
    });
    expect(model.endTokenIds).toEqual([2, 0, 4]);
    expect(model.tokenizer?.decode(model.tokenizer.encode('Three oceans'))).toBe('Three oceans');
  });

  test('the logits of a text', () => {
    const logits = model.forward([golden.ids('text/tokens')]);
    const flat = logits.dataSync() as Float32Array;
    logits.dispose();
    const V = 49152;
    expectClose(flat.slice(99 * V), golden.floats('text/lastLogits'), TOLERANCE);
    const pick = (ids: (t: number) => number[]) =>
      Array.from({ length: 100 }, (_, t) => ids(t).map((id) => flat[t * V + id])).flat();
    const fixed = golden.ids('text/fixedIds');
    expectClose(
      pick(() => fixed),
      golden.floats('text/fixedLogits'),
      TOLERANCE,
    );
    const top = golden.ids('text/topIds');
    expectClose(
      pick((t) => top.slice(t * 20, (t + 1) * 20)),
      golden.floats('text/topValues'),
      TOLERANCE,
    );
  });

  test.each(['chat', 'plain'])('64 greedy tokens: %s', async (name) => {
    const tokens = await collect(model, golden.ids(`${name}/prompt`), { maxNewTokens: 64, stop: [] });
    expect(tokens).toEqual(golden.ids(`${name}/tokens`));
  });

  test('a file whose header calls another token eos stops at the end of the turn', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'gqa-eos-'));
    try {
      const path = join(folder, 'eos.gguf');
      copyFileSync(SMOLLM2!, path);
      const key = 'tokenizer.ggml.eos_token_id';
      const file = openSync(path, 'r+');
      const head = Buffer.alloc(1 << 23);
      readSync(file, head, 0, head.length, 0);
      // Behind the key its type, u32, and the value.
      const at = head.indexOf(key) + key.length + 4;
      expect(head.readUInt32LE(at)).toBe(2);
      writeSync(file, Buffer.alloc(4), 0, 4, at);
      closeSync(file);
      const other = await loadModel(path, { backend });
      expect(other.endTokenIds).toEqual([0, 2, 4]);
      const { tokenizer } = other;
      const chat = tokenizer!.applyChatTemplate([{ role: 'user', content: '2+2?' }], {
        addGenerationPrompt: true,
      });
      const prompt = tokenizer!.encode(chat, { addSpecialTokens: false });
      const answer = await collect(other, prompt, { maxNewTokens: 48 });
      expect(answer.length).toBeLessThan(48);
      const endless = await collect(other, prompt, { maxNewTokens: answer.length + 1, stop: [] });
      expect(endless).toEqual([...answer, 2]);
      other.dispose();
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('half-precision caches say the same', async () => {
    for (const dtype of ['f16', 'bf16'] as const) {
      const cache = model.initCache({ batchSize: 1, maxLength: 128, dtype });
      const tokens = await collect(model, golden.ids('chat/prompt'), { maxNewTokens: 20, stop: [], cache });
      expect(tokens).toEqual(golden.ids('chat/tokens').slice(0, 20));
      cache.dispose();
    }
  });
});
