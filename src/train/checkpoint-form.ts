/**
 * The format of a run's checkpoints: that of the model it started from, with f32 weights and all its other
 * files (tokenizer, licence, metadata). A model from safetensors is written as a Hugging Face directory, one
 * from GGUF as `model.gguf`.
 */

import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import { configText, configWithDtype, configWithTying } from '../checkpoint/config-json.ts';
import { readCarriedFiles, writeCarriedFiles } from '../checkpoint/output.ts';
import type { TensorBytes } from '../checkpoint/tensor-bytes.ts';
import { recipeEntry, recipeFile, type TrainRecipe } from '../checkpoint/training-recipe.ts';
import { metadataPairs, writeGguf } from '../checkpoint/write-gguf.ts';
import { writeSafetensors } from '../checkpoint/write-safetensors.ts';
import type { GgufHeader } from '../format/gguf.ts';
import type { TrainableModel } from '../models/trainable-model.ts';

export interface CheckpointForm {
  /** Writes the model into an existing folder. */
  write(folder: string, model: TrainableModel, recipe: TrainRecipe): Promise<void>;
}

/**
 * A Hugging Face directory.
 * @param files to write beside the weights, by name
 * @param untrained tensors besides the model's
 */
export function huggingFaceForm(
  configJson: Readonly<Record<string, unknown>>,
  files: ReadonlyMap<string, Uint8Array>,
  untrained: ReadonlyMap<string, TensorBytes> = new Map(),
): CheckpointForm {
  return {
    async write(folder, model, recipe) {
      const all = new Map([
        ...files,
        ['config.json', new TextEncoder().encode(configText(configJson))],
        recipeFile(recipe),
      ]);
      await writeCarriedFiles(folder, all);
      const tensors = { ...Object.fromEntries(untrained), ...model.storedTensors() };
      await writeSafetensors(`${folder}/model.safetensors`, tensors);
    },
  };
}

/**
 * The form of the checkpoint that `model` was loaded from. Everything but the trained weights is read at
 * once, so the checkpoint may be moved afterwards. Tensors that are no parameters (factors of RoPE, masks, a
 * vision tower) are copied unchanged.
 */
export async function formOf(checkpoint: Checkpoint, model: TrainableModel): Promise<CheckpointForm> {
  const trained = model.storedTensors();
  const untrained = new Map<string, TensorBytes>();
  for (const [name, { dtype, shape }] of checkpoint.tensors) {
    if (Object.hasOwn(trained, name)) continue;
    untrained.set(name, { dtype, shape, data: await checkpoint.readBytes(name) });
  }
  const { gguf, directory } = checkpoint;
  if (gguf) return ggufForm(gguf, [...checkpoint.tensors.keys()], untrained);
  const config = configWithTying(checkpoint.config as Readonly<Record<string, unknown>>, model.config);
  return huggingFaceForm(configWithDtype(config, 'f32'), await readCarriedFiles(directory), untrained);
}

/** @param names of all tensors, in the order of the file */
function ggufForm(
  header: GgufHeader,
  names: readonly string[],
  untrained: ReadonlyMap<string, TensorBytes>,
): CheckpointForm {
  const metadata = metadataPairs(header);
  metadata.set('general.file_type', { type: 'u32', value: 0 }); // LLAMA_FTYPE_ALL_F32
  return {
    async write(folder, model, recipe) {
      metadata.set(...recipeEntry(recipe));
      const trained = model.storedTensors();
      const tensors = new Map(names.map((name) => [name, trained[name] ?? untrained.get(name)]));
      await writeGguf(`${folder}/model.gguf`, metadata, tensors);
    },
  };
}
