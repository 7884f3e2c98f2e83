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
import { type DecoderDescription, type Family, type FamilySource, positiveNumber } from './family.ts';
import { HEAD_NORM } from './gated-decoder.ts';
import { cap, gemmaFromConfig, gemmaFromGguf, gemmaGgufNames, gemmaNames } from './gemma2.ts';
import { ropesByKind, withoutRope } from './rope-keys.ts';
import { textModel, textModelNames } from './text-model.ts';

export const gemma3: Family = {
  modelTypes: ['gemma3_text', 'gemma3'],
  ggufArchitectures: ['gemma3'],

  fromConfig(outer: FamilySource): DecoderDescription {
    const { keys } = textModel(outer);
    if (keys.has('attn_logit_softcapping')) {
      throw keys.fail('attn_logit_softcapping', 'expected none, as in transformers, got a value');
    }
    const source: FamilySource = { ...outer, keys: withoutRope(keys) };
    const config = gemmaFromConfig(source, { maxPositionEmbeddings: 131_072, queryKeyNorm: HEAD_NORM });
    const thetas = { full_attention: 1_000_000, sliding_attention: 10_000 };
    const ropes = ropesByKind(keys, config.headDim, config.maxPositionEmbeddings, thetas);
    const logitsSoftCap = cap(keys, 'final_logit_softcapping');
    return { config: { ...config, ...ropes, logitsSoftCap }, names: gemmaNames(textModelNames(outer)) };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    const { keys } = source;
    const config = gemmaFromGguf(source, 62, { queryKeyNorm: HEAD_NORM });
    const theta = positiveNumber(keys, 'gemma3.rope.freq_base_swa', 10000);
    const windowRope = { theta, rotaryDim: config.rope?.rotaryDim ?? config.headDim, interleaved: false };
    const capKey = 'gemma3.final_logit_softcapping';
    // 0 means none, as in llama.cpp.
    const logitsSoftCap = keys.raw(capKey) === 0 ? undefined : cap(keys, capKey);
    return { config: { ...config, windowRope, logitsSoftCap }, names: gemmaGgufNames };
  },
};
