/**
 * The format of a run's checkpoints: that of the model it started from, with f32 weights and all its other
 * files (tokenizer, licence, metadata). A model from safetensors is written as a Hugging Face directory, one
 * from GGUF as `model.gguf`.
 */
import type { Checkpoint, CheckpointContents, CheckpointFormat } from '../checkpoint/checkpoint.ts';
import { safetensorsCheckpoint } from '../checkpoint/safetensors-checkpoint.ts';
import type { TensorBytes } from '../checkpoint/tensor-bytes.ts';
import type { TrainRecipe } from '../checkpoint/training-recipe.ts';
import type { Folder } from '../files/folder.ts';
import type { TrainableModel } from '../models/trainable-model.ts';

export interface CheckpointForm {
  /** Writes the model into a folder that is there. */
  write(folder: Folder, model: TrainableModel, recipe: TrainRecipe): Promise<void>;
}

/**
 * A Hugging Face directory.
 * @param files to be put beside the weights, by name
 */
export function huggingFaceForm(
  config: Readonly<Record<string, unknown>>,
  files: ReadonlyMap<string, Uint8Array>,
): CheckpointForm {
  return formWith(safetensorsCheckpoint, { config, files, tensors: new Map() });
}

/**
 * The form of the checkpoint that `model` was loaded from. Everything but the trained weights is read at
 * once, so the checkpoint may be moved afterwards. Tensors that are no parameters (factors of RoPE, masks, a
 * vision tower) are copied unchanged.
 */
export async function formOf(checkpoint: Checkpoint, model: TrainableModel): Promise<CheckpointForm> {
  const { format } = checkpoint;
  const trained = model.storedTensors();
  const tensors = new Map<string, TensorBytes>();
  for (const [name, { dtype, shape }] of checkpoint.tensors) {
    const bytes = Object.hasOwn(trained, name)
      ? trained[name]
      : { dtype, shape, data: await checkpoint.readBytes(name) };
    tensors.set(name, bytes);
  }
  return formWith(format, { tensors, ...(await format.contents(checkpoint, model.config)) });
}

/** @param rest all but the model's tensors and the recipe */
function formWith(format: CheckpointFormat, rest: CheckpointContents): CheckpointForm {
  return {
    async write(folder, model, recipe) {
      const tensors = new Map([...rest.tensors, ...Object.entries(model.storedTensors())]);
      await format.write(folder, { ...rest, tensors, recipe });
    },
  };
}
