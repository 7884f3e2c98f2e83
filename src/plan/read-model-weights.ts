/** Reads what the weights of a model take, from the headers of its files. */
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { FETCH_OPTIONS } from '../files/source-options.ts';
import type { ReadModelShapeOptions } from './read-model-shape.ts';
import type { ShapeSource } from './read-shape.ts';
import type { WeightGroup } from './weights.ts';

const OPTIONS = optionKinds<ReadModelShapeOptions>(FETCH_OPTIONS);

/**
 * Reads the sizes of a model's weights: of the tensors in a `.gguf` file and its other parts, in a
 * `.safetensors` file, or in all of a folder's.
 * @param source as for `readModelShape`
 * @throws as `readModelShape`
 * @returns parameters and bytes by kind and storage type; undefined for a config.json without weights beside it
 * @example planMemory(await readModelShape(from), { weights: await readModelWeights(from) });
 */
export async function readModelWeights(
  source: ShapeSource,
  options: ReadModelShapeOptions = {},
): Promise<readonly WeightGroup[] | undefined> {
  checkOptions('readModelWeights', options, OPTIONS);
  const { readWeights } = await import('./read-weights.ts');
  return readWeights(source, options, new Map());
}
