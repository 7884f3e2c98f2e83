/**
 * What families with plain mixtures share: gated experts without biases, in files of transformers one tensor
 * per expert, in GGUF one tensor for all.
 */
import type { KeyReader } from '../../format/key-reader.ts';
import type { DecoderConfig, DecoderNames } from '../decoder-config.ts';
import type { ExpertNames, ExpertsConfig } from '../experts-config.ts';
import { withLayerNames } from './gated-decoder.ts';

/** Keys of a mixture, by what they say. */
interface ExpertKeys {
  readonly numExperts: string;
  readonly expertsPerToken: string;
  /** Absent: that of the MLP. */
  readonly intermediateSize?: string;
}

/** The keys of a GGUF file. */
export function ggufExpertKeys(arch: string): ExpertKeys {
  return {
    numExperts: `${arch}.expert_count`,
    expertsPerToken: `${arch}.expert_used_count`,
    intermediateSize: `${arch}.expert_feed_forward_length`,
  };
}

/**
 * `config` with experts in place of the MLP.
 * @param isMixed whether a layer is a mixture; default: every layer is
 * @param shared experts that see every token, as wide as the others; default 0
 * @throws FormatError naming the key that is missing or wrong
 */
export function withExperts(
  config: DecoderConfig,
  keys: KeyReader,
  names: ExpertKeys,
  routing: Omit<ExpertsConfig['routing'], 'groups' | 'choiceBias' | 'scale'>,
  isMixed: (layer: number) => boolean = () => true,
  shared: number = 0,
): DecoderConfig & { readonly experts: ExpertsConfig } {
  const numExperts = keys.needInt(names.numExperts);
  const expertsPerToken = keys.needInt(names.expertsPerToken);
  if (expertsPerToken > numExperts) {
    const expected = `expected at most ${numExperts}, the number of experts`;
    throw keys.fail(names.expertsPerToken, `${expected}, got ${expertsPerToken}`);
  }
  const width = names.intermediateSize === undefined ? undefined : keys.int(names.intermediateSize);
  const experts: ExpertsConfig = {
    numExperts,
    expertsPerToken,
    intermediateSize: width ?? config.intermediateSize,
    ...(shared > 0 && { sharedIntermediateSize: shared * (width ?? config.intermediateSize) }),
    layers: config.attention.map((_, layer) => isMixed(layer)),
    routing: { ...routing, choiceBias: false, scale: 1 },
    activation: { type: 'gated', function: config.mlp.activation },
    routerBias: false,
    biases: false,
  };
  return { ...config, experts };
}

/**
 * `names` with a router and one tensor per expert and projection.
 * @param mlp the prefix of both in a layer
 */
export function withExpertNames(
  names: DecoderNames,
  mlp: (layer: number) => string,
  [gate, up, down]: readonly [gate: string, up: string, down: string],
): DecoderNames {
  return withLayerNames(names, (layer) => {
    const tensor = (expert: number, name: string) => ({
      weight: `${mlp(layer)}.experts.${expert}.${name}.weight`,
    });
    const experts: ExpertNames = {
      router: `${mlp(layer)}.gate`,
      stacked: false,
      expert: (expert) => ({
        gateUp: [tensor(expert, gate), tensor(expert, up)],
        down: tensor(expert, down),
      }),
    };
    return { experts };
  });
}

/** `names` with those of the experts in files of llama.cpp's converter. */
export function withGgufExpertNames(names: DecoderNames): DecoderNames {
  return withLayerNames(names, (layer) => {
    const tensor = (own: string) => ({ weight: `blk.${layer}.${own}.weight` });
    const experts: ExpertNames = {
      router: `blk.${layer}.ffn_gate_inp`,
      stacked: true,
      expert: () => ({
        gateUp: [tensor('ffn_gate_exps'), tensor('ffn_up_exps')],
        down: tensor('ffn_down_exps'),
      }),
    };
    return { experts };
  });
}
