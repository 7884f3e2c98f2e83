/**
 * What the checkpoints of a run are written as: the form the model came in, with f32 weights and all that belongs to it (tokenizer,
 * licence, metadata). A model from safetensors is written as a Hugging Face directory, one from GGUF as `model.gguf`.
 */
import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import { readCarriedFiles } from '../checkpoint/output.ts';
import { writeContentAtomically } from '../checkpoint/write-atomically.ts';
import { type GgufPair, writeGguf } from '../checkpoint/write-gguf.ts';
import { type TensorBytes, writeSafetensors } from '../checkpoint/write-safetensors.ts';
import { configWithDtype } from '../models/config-dtype.ts';
import type { TrainableModel } from '../models/trainable-model.ts';
import { RECIPE_FILE, RECIPE_KEY, type TrainRecipe } from './recipe.ts';

export interface CheckpointForm {
  /** Writes the model into a folder that is there. */
  write(folder: string, model: TrainableModel, recipe: TrainRecipe): Promise<void>;
}

/**
 * A Hugging Face directory.
 * @param files to be put beside the weights, by name
 */
export function huggingFaceForm(
  configJson: Readonly<Record<string, unknown>>,
  files: ReadonlyMap<string, Uint8Array>,
): CheckpointForm {
  return {
    async write(folder, model, recipe) {
      const all = new Map([
        ...files,
        ['config.json', jsonBytes(configJson)],
        [RECIPE_FILE, jsonBytes(recipe)],
      ]);
      for (const [name, bytes] of all) await writeContentAtomically(`${folder}/${name}`, bytes);
      await writeSafetensors(`${folder}/model.safetensors`, model.storedTensors());
    },
  };
}

/**
 * The form of the checkpoint that `model` was loaded from. All but the weights is read now: the checkpoint need not stay where it
 * is.
 */
export async function formOf(checkpoint: Checkpoint, model: TrainableModel): Promise<CheckpointForm> {
  if (checkpoint.gguf === undefined) {
    const config = checkpoint.config as Readonly<Record<string, unknown>>;
    return huggingFaceForm(configWithDtype(config, 'f32'), await readCarriedFiles(checkpoint.directory));
  }
  const metadata = new Map<string, GgufPair>();
  const { metadata: values, metadataTypes } = checkpoint.gguf;
  for (const [key, value] of values) metadata.set(key, { type: metadataTypes.get(key)!, value });
  metadata.set('general.file_type', { type: 'u32', value: 0 }); // LLAMA_FTYPE_ALL_F32
  // What is no parameter, such as the factors of RoPE, stays as it was; in the order of the file.
  const trained = model.storedTensors();
  const tensors = new Map<string, TensorBytes>();
  for (const [name, { dtype, shape }] of checkpoint.tensors) {
    const isTrained = Object.hasOwn(trained, name);
    tensors.set(name, isTrained ? trained[name] : { dtype, shape, data: await checkpoint.readBytes(name) });
  }
  return {
    async write(folder, current, recipe) {
      metadata.set(RECIPE_KEY, { type: 'string', value: JSON.stringify(recipe) });
      const weights = Object.entries(current.storedTensors());
      await writeGguf(`${folder}/model.gguf`, metadata, new Map([...tensors, ...weights]));
    },
  };
}

function jsonBytes(value: unknown): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`);
}
