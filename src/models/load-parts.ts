/** The weights, tokenizer and origin of a described checkpoint. */
import { folderWithoutWeights } from '../checkpoint/carried-files.ts';
import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { DecoderConfig, DecoderNames } from './decoder-config.ts';
import { weightPlaces } from './decoder-weights.ts';
import type { DecoderDescription } from './families/family.ts';
import { type LoadWeightsOptions, loadWeights } from './load-weights.ts';
import type { ModelOrigin, ModelParts } from './model.ts';
import { ropeTables } from './rope-table.ts';

/** Everything that a model is made of. The tensors are the caller's to free; none is left when it throws. */
export async function loadParts(
  checkpoint: Checkpoint,
  { config, names }: DecoderDescription,
  options: Omit<LoadWeightsOptions, 'loaded'>,
): Promise<ModelParts> {
  const tensors: Tensor[] = [];
  try {
    const { makeTokenizer, endTokenIds } = await checkpoint.format.text(checkpoint);
    const weights = await loadWeights(checkpoint, config, names, { ...options, loaded: tensors });
    return {
      config,
      weights,
      tensors,
      backend: options.backend,
      ...ropeTables(config),
      endTokenIds: Object.freeze(endTokenIds),
      makeTokenizer,
      origin: await originOf(checkpoint, config, names, options.dtype),
    };
  } catch (error) {
    for (const tensor of tensors) tensor.dispose();
    throw error;
  }
}

async function originOf(
  checkpoint: Checkpoint,
  config: DecoderConfig,
  names: DecoderNames,
  dtype: LoadWeightsOptions['dtype'],
): Promise<ModelOrigin> {
  const { format, file, config: json, tensors } = checkpoint;
  if (format.names === 'gguf') return { names };
  const used = new Set(weightPlaces(config, names).map(({ name }) => name));
  // Saved without: with tied embeddings it is the table once more.
  used.add(`${names.headCopy}.weight`);
  const all = [...tensors];
  const others = all.map(([name]) => name).filter((name) => !used.has(name) && !names.isBuffer?.(name));
  const folder = others.length > 0 ? checkpoint.folder : await folderWithoutWeights(checkpoint);
  return {
    names,
    place: { folder, file },
    configJson: json as ModelOrigin['configJson'],
    dtypes: dtype === undefined ? new Map(all.map(([name, info]) => [name, info.dtype])) : undefined,
    others,
  };
}
