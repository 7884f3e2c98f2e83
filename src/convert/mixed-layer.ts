/** A decoder layer with its heads merged, as f32 weights: what `convert-tensor.ts` writes, in memory. */
import type { DecoderConfig } from '../models/decoder-config.ts';
import type { DecoderLayer } from '../models/decoder-weights.ts';
import type { ProjectionOf } from '../models/weight-place.ts';
import { cast } from '../ops/cast.ts';
import { tensor } from '../ops/creation.ts';
import { transpose } from '../ops/transpose.ts';
import { scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { addTurned } from './convert-tensor.ts';
import type { HeadMix, LayerMix } from './head-mix.ts';

/**
 * Fitted weights of the mix take the place of its sums. Free it with `freeMixedLayer`: tensors that do not
 * change are those of `layer`.
 */
export function mixedLayer(config: DecoderConfig, layer: DecoderLayer, mix: LayerMix): DecoderLayer {
  const { headDim: H, hiddenSize, queryKeyNorm } = config;
  const normed = queryKeyNorm?.over === 'all';
  const mixes = [mix.query, mix.key, mix.value];
  const { weights } = mix;
  const fitted = weights && [weights.query, weights.key, weights.value];
  const { attentionOutput, sinks, queryNorm, keyNorm } = layer;
  const matrix = (values: Float32Array) =>
    tensor(values, { shape: [values.length / hiddenSize, hiddenSize] });
  const outputRows = () => mixedRows(transpose(cast(attentionOutput.weight, 'f32')), mix.output, H);
  return scope(() => ({
    ...layer,
    queryKeyValue: layer.queryKeyValue.map(({ weight, bias }, i) => ({
      weight: fitted ? matrix(fitted[i]) : mixedRows(weight, mixes[i], H),
      ...(bias && { bias: mixedRows(bias, mixes[i], H) }),
    })),
    attentionOutput: {
      ...attentionOutput,
      weight: transpose(weights ? matrix(weights.output) : outputRows()),
    },
    ...(normed && queryNorm && { queryNorm: mixedRows(queryNorm, mix.query, H) }),
    ...(normed && keyNorm && { keyNorm: mixedRows(keyNorm, mix.key, H) }),
    ...(sinks && { sinks: movedSinks(sinks, mix.query) }),
  }));
}

/** Frees the tensors of a mixed layer, but not those of the layer that it was made of. */
export function freeMixedLayer(mixed: DecoderLayer, { attentionOutput, ...layer }: DecoderLayer): void {
  for (const { weight, bias } of projectionsOf(mixed)) {
    weight.dispose();
    if (bias !== attentionOutput.bias) bias?.dispose();
  }
  for (const name of ['queryNorm', 'keyNorm', 'sinks'] as const) {
    if (mixed[name] !== layer[name]) mixed[name]?.dispose();
  }
}

/** q, k, v and o. */
export function projectionsOf(layer: DecoderLayer): readonly ProjectionOf<Tensor>[] {
  return [...layer.queryKeyValue, layer.attentionOutput];
}

/** New heads of a weight `[heads * H, D]` or a bias `[heads * H]`. */
function mixedRows(old: Tensor, mixes: readonly HeadMix[], H: number): Tensor {
  const values = cast(old, 'f32').dataSync() as Float32Array;
  const size = (H * old.size) / old.shape[0];
  const out = new Float64Array(mixes.length * size);
  mixes.forEach((mix, index) => {
    const to = out.subarray(index * size, (index + 1) * size);
    for (const source of mix) {
      addTurned(to, values.subarray(source.head * size, (source.head + 1) * size), source, H);
    }
  });
  return tensor(Float32Array.from(out), { shape: [mixes.length * H, ...old.shape.slice(1)] });
}

/** A sink moves with its query head. */
function movedSinks(sinks: Tensor, query: readonly HeadMix[]): Tensor {
  const values = sinks.dataSync();
  const moved = Float32Array.from(query, ([{ head }]) => Number(values[head]));
  return tensor(moved, { shape: sinks.shape });
}
