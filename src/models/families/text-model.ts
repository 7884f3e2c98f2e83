/**
 * The text model inside a multimodal checkpoint: its config is an object in config.json, its tensors' names
 * have a prefix.
 */
import type { DecoderNames } from '../decoder-config.ts';
import { renamed } from '../stored-form.ts';
import { type FamilySource, nestedKeys } from './family.ts';
import { huggingFaceNames } from './gated-decoder.ts';

/** `source` with the keys of `text_config`, where there is one. */
export function textModel(source: FamilySource): FamilySource {
  return { ...source, keys: nestedKeys(source.keys, 'text_config') ?? source.keys };
}

/**
 * The names of the text model's tensors: without a prefix, behind `language_model.`, or (transformers 5)
 * `model.language_model.`.
 */
export function textModelNames({ hasTensor }: FamilySource): DecoderNames {
  if (hasTensor('language_model.model.norm.weight')) {
    return renamed(huggingFaceNames, (name) => `language_model.${name}`);
  }
  if (hasTensor('model.language_model.norm.weight')) {
    return renamed(huggingFaceNames, (name) => name.replace(/^model\./, 'model.language_model.'));
  }
  return huggingFaceNames;
}
