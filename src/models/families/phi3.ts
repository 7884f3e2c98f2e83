/**
 * Phi-3, 3.5 and 4: Llama with q, k, v in one tensor and gate, up in another, LongRoPE for long contexts, and
 * in Phi-4-mini a partial rotation.
 *
 * The window of a GGUF file is used, as transformers uses that of the config; llama.cpp ignores it (its pull
 * request 13676).
 *
 * Source: transformers models/phi3; llama.cpp convert_hf_to_gguf.py (Phi3MiniModel), src/models/phi3.cpp.
 */
import { show } from '../../arguments/kinds.ts';
import type { KeyReader } from '../../format/key-reader.ts';
import type { DecoderDescription, Family, FamilySource } from './family.ts';
import { fusedNames, gatedFromConfig, gatedFromGguf, ggufNames, huggingFaceNames } from './gated-decoder.ts';
import { ropeParameters } from './rope-keys.ts';

export const phi3: Family = {
  modelTypes: ['phi3'],
  ggufArchitectures: ['phi3'],

  fromConfig(source: FamilySource): DecoderDescription {
    checkRopeType(source.keys);
    const config = gatedFromConfig(source, {
      maxPositionEmbeddings: 4096,
      normEps: 1e-5,
      rope: { partial: 1, originalPositions: 4096 },
    });
    return { config, names: fusedNames(huggingFaceNames, 'qkv_proj', 'gate_up_proj') };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    return { config: gatedFromGguf(source), names: fusedNames(ggufNames, 'attn_qkv', 'ffn_up') };
  },
};

/** transformers supports no other scaling in this family. */
function checkRopeType(keys: KeyReader): void {
  const parameters = ropeParameters(keys);
  const type = parameters?.raw('rope_type') ?? parameters?.raw('type') ?? 'default';
  if (!['default', 'longrope', 'su'].includes(String(type))) {
    throw keys.fail('rope_type', `expected default or longrope in this family, got ${show(type)}`);
  }
}
