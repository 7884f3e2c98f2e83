/** A real model file, where present: in `../shared/models` or the folder that GQA_MODELS names. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { gguf as readWithHuggingFace } from '@huggingface/gguf';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../src/checkpoint/open-checkpoint.ts';
import { kvElementsPerToken } from '../../src/format/model-shape.ts';

const path = join(process.env.GQA_MODELS ?? '../shared/models', 'SmolLM2-135M-Instruct.Q4_1.gguf');
const present = existsSync(path);
if (!present) console.log(`skipped: ${path} is not there (set GQA_MODELS to a folder that holds it)`);

describe.skipIf(!present)('SmolLM2-135M-Instruct.Q4_1.gguf', () => {
  it('has the shape, types and tokenizer that it should', async () => {
    await using checkpoint = await openCheckpoint(path);
    expect(checkpoint.shape).toMatchObject({
      ...{
        modelType: 'llama',
        numLayers: 30,
        numHeads: 9,
        numKeyValueHeads: 3,
        headDim: 64,
        hiddenSize: 576,
      },
      ...{ intermediateSize: 1536, vocabSize: 49152, maxPositionEmbeddings: 8192, tiedEmbeddings: true },
    });
    expect(2 * kvElementsPerToken(checkpoint.shape)).toBe(22.5 * 1024);
    expect(checkpoint.tensors.size).toBe(272);
    expect(checkpoint.tensors.get('blk.7.attn_k.weight')).toMatchObject({ dtype: 'q4_1', shape: [192, 576] });
    expect(checkpoint.tensors.get('token_embd.weight')).toMatchObject({ dtype: 'q8_0', shape: [49152, 576] });
    expect(checkpoint.gguf?.metadata.get('tokenizer.ggml.tokens')).toHaveLength(49152);
    expect(await checkpoint.readBytes('blk.0.attn_norm.weight')).toHaveLength(576 * 4);
  });

  it('reads as @huggingface/gguf reads it', async () => {
    await using checkpoint = await openCheckpoint(path);
    const theirs = await readWithHuggingFace(path, { allowLocalFile: true });
    const header = checkpoint.gguf!;
    expect(header.dataOffset).toBe(Number(theirs.tensorDataOffset));
    for (const [key, value] of header.metadata) {
      const plain = ArrayBuffer.isView(value) ? Array.from(value as Int32Array) : value;
      expect(plain).toEqual((theirs.metadata as Record<string, unknown>)[key]);
    }
    const places = [...header.tensors.values()].map((t) => [
      t.name,
      t.shape,
      t.byteOffset - header.dataOffset,
    ]);
    const wanted = theirs.tensorInfos.map((t) => [t.name, t.shape.map(Number).reverse(), Number(t.offset)]);
    expect(places).toEqual(wanted);
  });
});
