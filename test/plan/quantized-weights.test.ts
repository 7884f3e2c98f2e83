/** Planned weights of a block type equal those of the file that `gqa quantize` writes, to the byte. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { convertCheckpoint } from '../../src/convert/index.ts';
import { MIXTURE_TYPES } from '../../src/format/gguf-mixture.ts';
import { saveModel } from '../../src/models/index.ts';
import { planMemory, readModelShape, readModelWeights, type WeightGroup } from '../../src/plan/index.ts';
import { createModel, llamaConfig } from '../../src/train/index.ts';
import { withFolder } from '../checkpoint/temporary-folder.ts';
import { GOLDEN } from '../models/golden.ts';
import { tinyCheckpoints } from './tiny-checkpoints.ts';

/** Whole blocks of every type, tied, and rows that are no whole blocks; 12 layers, so that layers differ. */
const SIZES = [
  { hiddenSize: 256, numHeads: 4, numKeyValueHeads: 2, intermediateSize: 512, tiedEmbeddings: false },
  { hiddenSize: 256, numHeads: 2, numKeyValueHeads: 1, intermediateSize: 768, tiedEmbeddings: true },
  { hiddenSize: 96, numHeads: 3, numKeyValueHeads: 3, intermediateSize: 200, tiedEmbeddings: false },
] as const;

test.each(SIZES)('a Llama of $hiddenSize x $intermediateSize, tied $tiedEmbeddings', async (sizes) => {
  await withFolder({}, async (folder) => {
    const from = join(folder, 'hf');
    const model = createModel(llamaConfig({ vocabSize: 50, numLayers: 12, ...sizes }));
    await saveModel(from, model, { dtype: 'f32' });
    model.dispose();
    const shape = await readModelShape(from);
    for (const dtype of MIXTURE_TYPES) {
      const to = join(folder, `${dtype}.gguf`);
      const { bytes } = await convertCheckpoint({ from, to, dtype });
      const planned = planMemory(shape, { weights: dtype }).weights;
      expect(planned.bytes).toBe(bytes);
      expect(sorted(planned.groups)).toEqual(sorted(await readModelWeights(to)));
    }
  });
});

const files = tinyCheckpoints().filter((name) => name.endsWith('.gguf'));

/** q4_k, since only its types differ by layer. */
test.each(files)('%s: every matrix in q4_k', async (name) => {
  await withFolder({}, async (folder) => {
    const from = join(GOLDEN, name);
    const shape = await readModelShape(from);
    const to = join(folder, 'q4_k.gguf');
    await convertCheckpoint({ from, to, dtype: 'q4_k' });
    const planned = planMemory(shape, { weights: 'q4_k' }).weights.groups;
    expect(sorted(planned, 'other')).toEqual(sorted(await readModelWeights(to), 'other'));
  });
});

/** One group per kind and type has no order; a shape states no biases, which are among the others. */
function sorted(groups: readonly WeightGroup[] = [], without?: string): readonly WeightGroup[] {
  const key = ({ kind, dtype }: WeightGroup) => `${kind} ${dtype}`;
  return groups.filter(({ kind }) => kind !== without).sort((a, b) => (key(a) < key(b) ? -1 : 1));
}
