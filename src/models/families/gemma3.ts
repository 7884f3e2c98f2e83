/**
 * Gemma 3, the language model: Gemma 2 with norms on q and k in place of soft caps on scores, five sliding
 * layers before each full one, and other rotation frequencies in sliding layers. Of a multimodal file only
 * the text model is read.
 *
 * GGUF's converter adds the 1 to the norms. It writes no query scale: it is 1 / sqrt(H), and 1 / sqrt(D / N)
 * for 27B, recognised by its 62 layers. Older files have no frequencies for sliding layers.
 *
 * Source: transformers models/gemma3; llama.cpp convert_hf_to_gguf.py (Gemma3Model), src/models/gemma3.cpp.
 */
import { KeyReader } from '../../format/key-reader.ts';
import type { DecoderNames } from '../decoder-config.ts';
import { renamed } from '../stored-form.ts';
import {
  type DecoderDescription,
  type Family,
  type FamilySource,
  nestedKeys,
  positiveNumber,
} from './family.ts';
import { huggingFaceNames } from './gated-decoder.ts';
import { cap, gemmaFromConfig, gemmaFromGguf, gemmaGgufNames, gemmaNames } from './gemma2.ts';
import { configRope } from './rope-keys.ts';

export const gemma3: Family = {
  modelTypes: ['gemma3_text', 'gemma3'],
  ggufArchitectures: ['gemma3'],

  fromConfig(outer: FamilySource): DecoderDescription {
    const keys = nestedKeys(outer.keys, 'text_config') ?? outer.keys;
    if (keys.has('attn_logit_softcapping')) {
      throw keys.fail('attn_logit_softcapping', 'expected none, as in transformers, got a value');
    }
    const source: FamilySource = { ...outer, keys: withoutRope(keys) };
    const config = gemmaFromConfig(source, { maxPositionEmbeddings: 131_072, queryKeyNorm: true });
    const [rope, windowRope] = rotations(keys).map(([own, theta]) =>
      configRope(own, config.headDim, config.maxPositionEmbeddings, { theta }),
    );
    const logitsSoftCap = cap(keys, 'final_logit_softcapping');
    return { config: { ...config, rope, windowRope, logitsSoftCap }, names: gemmaNames(namesIn(outer)) };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    const { keys } = source;
    const config = gemmaFromGguf(source, 62, { queryKeyNorm: true });
    const theta = positiveNumber(keys, 'gemma3.rope.freq_base_swa', 10000);
    const windowRope = { theta, rotaryDim: config.rope?.rotaryDim ?? config.headDim, interleaved: false };
    const capKey = 'gemma3.final_logit_softcapping';
    // 0 means none, as in llama.cpp.
    const logitsSoftCap = keys.raw(capKey) === 0 ? undefined : cap(keys, capKey);
    return { config: { ...config, windowRope, logitsSoftCap }, names: gemmaGgufNames };
  },
};

/**
 * The rotation keys of full layers and of sliding layers, with their default theta. They are two objects in
 * `rope_parameters`, or keys of the config; `rope_scaling` is for full layers and has priority.
 */
function rotations(keys: KeyReader): [keys: KeyReader, defaultTheta: number][] {
  const parameters = nestedKeys(keys, 'rope_parameters');
  if (parameters && !parameters.find(['full_attention', 'sliding_attention'])) {
    throw keys.fail('rope_parameters', 'expected full_attention and sliding_attention in it');
  }
  const kind = (name: string) => {
    const own = parameters && nestedKeys(parameters, name);
    return own ? (parameters.raw(name) as object) : { rope_type: 'default' };
  };
  const scaling = nestedKeys(keys, 'rope_scaling') ? (keys.raw('rope_scaling') as object) : {};
  const of = (own: object, theta: unknown) => {
    const values: Readonly<Record<string, unknown>> = { rope_parameters: own, rope_theta: theta };
    return new KeyReader(keys.file, (key) => (Object.hasOwn(values, key) ? values[key] : undefined));
  };
  return [
    [of({ ...kind('full_attention'), ...scaling }, keys.raw('rope_theta')), 1_000_000],
    [of(kind('sliding_attention'), keys.raw('rope_local_base_freq')), 10_000],
  ];
}

function withoutRope(keys: KeyReader): KeyReader {
  const other = (key: string) => !key.startsWith('rope_');
  return new KeyReader(keys.file, (key) =>
    other(key) ? (keys.isNull(key) ? null : keys.raw(key)) : undefined,
  );
}

/**
 * The text model's names have no prefix, begin with `language_model.`, or (transformers 5) with
 * `model.language_model.`.
 */
function namesIn({ hasTensor }: FamilySource): DecoderNames {
  if (hasTensor('language_model.model.norm.weight')) {
    return renamed(huggingFaceNames, (name) => `language_model.${name}`);
  }
  if (hasTensor('model.language_model.norm.weight')) {
    return renamed(huggingFaceNames, (name) => name.replace(/^model\./, 'model.language_model.'));
  }
  return huggingFaceNames;
}
