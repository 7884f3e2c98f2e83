/**
 * Hunyuan, the dense models: Llama with an RMS norm of each head of q and k behind the rotation. With
 * `alpha`, the base of RoPE is raised to `theta * alpha^(H / (H - 2))`; GGUF's converter writes that base.
 *
 * Source: transformers models/hunyuan_v1_dense; llama.cpp conversion/hunyuan.py, src/models/hunyuan-dense.cpp.
 */
import type { KeyReader } from '../../format/key-reader.ts';
import type { QueryKeyNorm } from '../decoder-config.ts';
import { type DecoderDescription, type Family, type FamilySource, positiveNumber } from './family.ts';
import {
  gatedFromConfig,
  gatedFromGguf,
  ggufNames,
  huggingFaceNames,
  sibling,
  statedBiases,
  withLayerNames,
} from './gated-decoder.ts';
import { ropeParameters } from './rope-keys.ts';

export const hunyuanDense: Family = {
  modelTypes: ['hunyuan_v1_dense'],
  ggufArchitectures: ['hunyuan-dense'],

  fromConfig(source: FamilySource): DecoderDescription {
    const { keys, shape } = source;
    const config = gatedFromConfig(
      { ...source, keys: withRaisedBase(keys, shape.headDim) },
      { biases: statedBiases(keys), maxPositionEmbeddings: 2048, normEps: 1e-5, queryKeyNorm: NORM },
    );
    const names = withLayerNames(huggingFaceNames, (_, { attentionOutput }) => ({
      queryNorm: sibling(attentionOutput, 'query_layernorm'),
      keyNorm: sibling(attentionOutput, 'key_layernorm'),
    }));
    return { config, names };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    return { config: gatedFromGguf(source, { queryKeyNorm: NORM }), names: ggufNames };
  },
};

const NORM: QueryKeyNorm = { over: 'head', afterRotation: true };

function withRaisedBase(keys: KeyReader, headDim: number): KeyReader {
  const rope = ropeParameters(keys);
  if (!rope?.has('alpha') || (rope.raw('rope_type') ?? rope.raw('type')) !== 'dynamic') return keys;
  const theta = positiveNumber(rope.has('rope_theta') ? rope : keys, 'rope_theta', 10000);
  const raised = theta * positiveNumber(rope, 'alpha') ** (headDim / (headDim - 2));
  return keys.with({
    rope_scaling: undefined,
    rope_parameters: { rope_type: 'default', rope_theta: raised },
  });
}
