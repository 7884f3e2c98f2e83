/** A decoder layer with its heads merged, as f32 weights: what `convert-tensor.ts` writes, in memory. */
import type { DecoderConfig } from '../models/decoder-config.ts';
import type { DecoderLayer, ProjectionOf } from '../models/decoder-weights.ts';
import { cast } from '../ops/cast.ts';
import { tensor } from '../ops/creation.ts';
import { transpose } from '../ops/transpose.ts';
import { scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { HeadMix, LayerMix } from './head-mix.ts';

/** The caller frees the tensors of `projectionsOf` the result; the others are those of `layer`. */
export function mixedLayer(config: DecoderConfig, layer: DecoderLayer, mix: LayerMix): DecoderLayer {
  const { headDim: H, queryKeyNorm } = config;
  const normed = queryKeyNorm?.over === 'all';
  const mixes = [mix.query, mix.key, mix.value];
  const { attentionOutput, sinks, queryNorm, keyNorm } = layer;
  return scope(() => ({
    ...layer,
    queryKeyValue: layer.queryKeyValue.map(({ weight, bias }, i) => ({
      weight: mixedRows(weight, mixes[i], H),
      ...(bias && { bias: mixedRows(bias, mixes[i], H) }),
    })),
    attentionOutput: {
      ...attentionOutput,
      weight: transpose(mixedRows(transpose(cast(attentionOutput.weight, 'f32')), mix.output, H)),
    },
    ...(normed && queryNorm && { queryNorm: mixedRows(queryNorm, mix.query, H) }),
    ...(normed && keyNorm && { keyNorm: mixedRows(keyNorm, mix.key, H) }),
    ...(sinks && { sinks: movedSinks(sinks, mix.query) }),
  }));
}

/** q, k, v and o. */
export function projectionsOf(layer: DecoderLayer): readonly ProjectionOf<Tensor>[] {
  return [...layer.queryKeyValue, layer.attentionOutput];
}

/** New heads of a weight `[heads * H, D]` or a bias `[heads * H]`. */
function mixedRows(old: Tensor, mixes: readonly HeadMix[], H: number): Tensor {
  const values = cast(old, 'f32').dataSync();
  const columns = old.size / old.shape[0];
  const out = new Float64Array(mixes.length * H * columns);
  mixes.forEach((mix, index) => {
    for (const { head, weight, matrix } of mix) {
      for (let r = 0; r < H; r++) {
        const to = out.subarray((index * H + r) * columns, (index * H + r + 1) * columns);
        for (let s = 0; s < H; s++) {
          const factor = matrix ? weight * matrix[r * H + s] : r === s ? weight : 0;
          if (factor === 0) continue;
          const from = (head * H + s) * columns;
          for (let c = 0; c < columns; c++) to[c] += factor * Number(values[from + c]);
        }
      }
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
