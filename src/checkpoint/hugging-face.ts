/**
 * Shared by formats with Hugging Face's config.json: the config and its shape, and the files beside the
 * weights (tokenizer, chat template, licence, training recipe).
 *
 * Source: Hugging Face hub layout.
 */
import { type Folder, readSmallJson } from '../files/folder.ts';
import { FormatError } from '../format/format-error.ts';
import { KeyReader } from '../format/key-reader.ts';
import { modelShapeFromConfig } from '../format/model-shape.ts';
import { readCarriedFiles } from './carried-files.ts';
import type { Checkpoint, CheckpointContents, CheckpointFormat } from './checkpoint.ts';
import { CONFIG, configText, configWithDtype, configWithTying } from './config-json.ts';
import { huggingFaceText } from './hugging-face-tokenizer.ts';
import { parseRecipe, RECIPE_FILE } from './training-recipe.ts';

const MAX_CONFIG_BYTES = 1 << 24;

/** The functions of `CheckpointFormat` that these formats share. */
export const huggingFace: Pick<
  CheckpointFormat,
  'names' | 'keys' | 'shape' | 'text' | 'recipe' | 'contents'
> = {
  names: 'huggingFace',

  keys(checkpoint) {
    const config = (configOf(checkpoint) ?? {}) as Readonly<Record<string, unknown>>;
    return new KeyReader(checkpoint.folder.nameOf(CONFIG), (key) => config[key]);
  },

  shape: (checkpoint) => modelShapeFromConfig(configOf(checkpoint), checkpoint.folder.nameOf(CONFIG)),

  text: huggingFaceText,

  async recipe(checkpoint) {
    const text = await checkpoint.readText(RECIPE_FILE);
    return text === undefined ? undefined : parseRecipe(text, checkpoint.folder.nameOf(RECIPE_FILE));
  },

  async contents({ config, folder }, model) {
    const tied = configWithTying(config as Readonly<Record<string, unknown>>, model);
    return { config: configWithDtype(tied, 'f32'), files: await readCarriedFiles(folder) };
  },
};

function configOf({ config, folder }: Checkpoint): unknown {
  if (config !== undefined) return config;
  const what = 'expected config.json next to the weights, got none';
  throw new FormatError(folder.nameOf(CONFIG), undefined, what);
}

/** config.json and generation_config.json, parsed and not validated. */
export async function readConfigs(folder: Folder): Promise<Pick<Checkpoint, 'config' | 'generationConfig'>> {
  return {
    config: await readSmallJson(folder, CONFIG, MAX_CONFIG_BYTES),
    generationConfig: await readSmallJson(folder, 'generation_config.json', MAX_CONFIG_BYTES),
  };
}

/** Writes config.json, the recipe and the copied files, each atomically. @returns their names */
export async function writeBeside(
  folder: Folder,
  { config, recipe, files = new Map() }: CheckpointContents,
): Promise<readonly string[]> {
  const all = new Map<string, string | Uint8Array>([[CONFIG, configText(config)], ...files]);
  if (recipe) all.set(RECIPE_FILE, `${JSON.stringify(recipe, null, 2)}\n`);
  for (const [name, content] of all) {
    const [file, ...above] = name.split('/').reverse();
    const place = above.reduceRight((outer, inner) => outer.folder(inner), folder);
    await place.create();
    await place.write(file, content);
  }
  return [...all.keys()];
}
