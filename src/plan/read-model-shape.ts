/**
 * A model's shape from a config.json, a GGUF header, or a safetensors file. The header of the last has no
 * head counts, so the config.json beside it is read. Only headers are read, however large the file is.
 */
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { FETCH_OPTIONS, type FetchModelOptions } from '../files/source-options.ts';
import type { ModelShape } from '../format/shape-types.ts';
import type { ShapeSource } from './read-shape.ts';

/** Options of `readModelShape`. */
export interface ReadModelShapeOptions extends FetchModelOptions {}

const OPTIONS = optionKinds<ReadModelShapeOptions>(FETCH_OPTIONS);

/**
 * Reads a model's shape.
 * @param source a config.json, a `.gguf` file, a `.safetensors` file beside its config.json, or a Hugging
 * Face folder: on a disk (Node), at an address, picked by a user, or in memory; or a ByteSource
 * @throws FormatError for a damaged or truncated header, or a config without heads; Error when there is no
 *   such file, a server does not give it, or a safetensors file has no config.json beside it
 * @example (await readModelShape('model.gguf')).numKeyValueHeads
 */
export async function readModelShape(
  source: ShapeSource,
  options: ReadModelShapeOptions = {},
): Promise<ModelShape> {
  checkOptions('readModelShape', options, OPTIONS);
  // Imported here, because a page that plans with a preset or a config needs no readers of files.
  const { readShape } = await import('./read-shape.ts');
  return readShape(source, options, new Map());
}
