/** Quantised GGUF files: the types of tensors by llama.cpp's mixtures, and models that run from them. */
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { openCheckpoint } from '../../src/checkpoint/index.ts';
import { convertCheckpoint } from '../../src/convert/index.ts';
import { type MixtureModel, mixedType } from '../../src/format/gguf-mixture.ts';
import { loadModel, saveModel } from '../../src/models/index.ts';
import { createModel, llamaConfig } from '../../src/train/index.ts';
import { withFolder } from '../checkpoint/temporary-folder.ts';
import { GOLDEN } from '../models/golden.ts';

const llama7b: MixtureModel = {
  ...{ modelType: 'llama', numLayers: 32, numHeads: 32, numKeyValueHeads: 32 },
  tiedEmbeddings: false,
};

describe('mixtures', () => {
  const typeOf = (
    name: string,
    type: 'q4_k' | 'q4_0' | 'q6_k' | 'q8_0',
    changes: object = {},
    columns = 4096,
  ) => mixedType(name, columns, type, { ...llama7b, ...changes });

  test('Q4_K_M of Llama 2 7B: more bits in the first and last eighth, and every third layer between', () => {
    const more = Array.from({ length: 32 }, (_, i) => i).filter(
      (layer) => typeOf(`blk.${layer}.attn_v.weight`, 'q4_k') === 'q6_k',
    );
    expect(more).toEqual([0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]);
    const down = more.map((layer) => typeOf(`blk.${layer}.ffn_down.weight`, 'q4_k', {}, 11008));
    expect(new Set(down)).toEqual(new Set(['q6_k']));
    for (const name of ['attn_q', 'attn_k', 'attn_output', 'ffn_gate', 'ffn_up']) {
      expect(typeOf(`blk.0.${name}.weight`, 'q4_k')).toBe('q4_k');
    }
    expect(typeOf('token_embd.weight', 'q4_k')).toBe('q4_k');
    expect(typeOf('output.weight', 'q4_k')).toBe('q6_k');
  });

  test('the head, tied or not, in each type', () => {
    for (const [type, head] of [
      ['q4_0', 'q6_k'],
      ['q6_k', 'q6_k'],
      ['q8_0', 'q8_0'],
    ] as const) {
      expect(typeOf('output.weight', type)).toBe(head);
      expect(typeOf('token_embd.weight', type)).toBe(type);
      expect(typeOf('token_embd.weight', type, { tiedEmbeddings: true })).toBe(head);
    }
  });

  test('rows that are not whole blocks, and what is not quantised', () => {
    expect(typeOf('blk.5.attn_q.weight', 'q4_k', {}, 576)).toBe('q5_0');
    expect(typeOf('blk.0.attn_v.weight', 'q4_k', {}, 576)).toBe('q8_0');
    expect(typeOf('blk.5.attn_q.weight', 'q4_0', {}, 40)).toBe('f16');
    for (const name of [
      'blk.0.attn_norm.weight',
      'blk.0.ffn_gate_inp.weight',
      'position_embd.weight',
      'blk.0.attn_q.bias',
    ]) {
      expect(typeOf(name, 'q4_k')).toBe(undefined);
    }
  });

  test('Mixtral, Falcon and Llama 70B', () => {
    const mixtral = { experts: { numExperts: 8 } };
    expect(typeOf('blk.5.attn_k.weight', 'q4_0', mixtral)).toBe('q8_0');
    expect(typeOf('blk.5.attn_output.weight', 'q4_k', mixtral)).toBe('q5_k');
    expect(typeOf('blk.0.ffn_down_exps.weight', 'q4_k', mixtral)).toBe('q6_k');
    const falcon = { modelType: 'falcon' };
    expect(typeOf('output.weight', 'q4_k', falcon)).toBe('q8_0');
    expect(typeOf('blk.2.ffn_down.weight', 'q4_k', falcon)).toBe('q5_k');
    const large = { numLayers: 80, numKeyValueHeads: 8 };
    expect(typeOf('blk.10.attn_v.weight', 'q4_k', large)).toBe('q5_k');
  });
});

/** Rows of 256 and 512 values, so that every block type is used. */
const config = llamaConfig({
  ...{
    vocabSize: 64,
    hiddenSize: 256,
    numLayers: 2,
    numHeads: 4,
    numKeyValueHeads: 2,
    intermediateSize: 512,
  },
});

test.each([
  ['q8_0', 0.02],
  ['q6_k', 0.05],
  ['q4_k', 0.2],
  ['q4_0', 0.3],
] as const)('%s: the file has its mixture and computes what the model does', async (dtype, tolerance) => {
  await withFolder({}, async (folder) => {
    const [from, to] = [join(folder, 'hf'), join(folder, `${dtype}.gguf`)];
    const model = createModel(config, { seed: 3 });
    await saveModel(from, model, { dtype: 'f32' });
    model.dispose();
    const logits = async (path: string) => {
      const loaded = await loadModel(path);
      const out = loaded.forward([[1, 2, 3, 4, 5]]);
      const values = Array.from(out.dataSync(), Number);
      out.dispose();
      loaded.dispose();
      return values;
    };
    const { bytes } = await convertCheckpoint({ from, to, dtype });
    await using written = await openCheckpoint(to);
    expect([...written.tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0)).toBe(bytes);
    const metadata = written.gguf?.metadata;
    expect(metadata?.get('general.quantization_version')).toBe(2);
    expect(metadata?.get('general.file_type')).toBe({ q8_0: 7, q6_k: 18, q4_k: 15, q4_0: 2 }[dtype]);
    const [before, after] = [await logits(from), await logits(to)];
    const norm = (values: readonly number[]) => Math.hypot(...values);
    expect(norm(after.map((value, i) => value - before[i])) / norm(before)).toBeLessThan(tolerance);
  });
});

test('without heads, a type or another format there is nothing to do', async () => {
  const from = join(GOLDEN, 'quant/second-f32.gguf');
  await expect(convertCheckpoint({ from, to: 'nowhere.gguf' })).rejects.toThrow(
    /expected numKeyValueHeads, dtype or another format, got none of them/,
  );
});
