/**
 * The last part of a distillation: q, k, v and o of all layers are trained together, so that the converted
 * model predicts what the original predicts. All other weights are the original's, and both models share
 * them.
 *
 * The loss of a token is KL(original || converted) over the whole vocabulary. The text's own loss takes no
 * part: the model is to become the original, not better on this text.
 *
 * Source: Hinton, Vinyals and Dean 2015 (arXiv 1503.02531), at temperature 1.
 */
import { valueAndGrad } from '../autograd/grad.ts';
import { addInto } from '../backend/add-into.ts';
import { decoderLayer } from '../models/decoder.ts';
import type { DecoderConfig } from '../models/decoder-config.ts';
import { type DecoderPass, freePass } from '../models/decoder-pass.ts';
import type { DecoderLayer } from '../models/decoder-weights.ts';
import { mul } from '../ops/binary.ts';
import { sum } from '../ops/reduce.ts';
import { logSoftmax, softmax } from '../ops/softmax.ts';
import { eventLoopTurn } from '../tensor/event-loop.ts';
import { scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { projectionsOf } from './mixed-layer.ts';
import type { OpenedDecoder } from './opened-decoder.ts';
import { checkLoss, type LayerTraining, layerOptimizer, shuffled } from './train-layer.ts';

/**
 * Changes the weights of `layers` in place; their matrices q, k, v and o must be f32 and their own.
 * @param original its layers and the weights outside of layers
 * @param rows of tokens, all of one length
 * @param perStep rows of a step; one after the other, so that activations of one are in memory
 */
export async function trainTogether(
  original: OpenedDecoder,
  config: DecoderConfig,
  layers: readonly DecoderLayer[],
  rows: readonly (readonly number[])[],
  { perStep, ...training }: LayerTraining & { readonly perStep: number },
): Promise<void> {
  const { owner, optimizer } = layerOptimizer(layers.flatMap(projectionsOf), training);
  const { steps, seed, onStep } = training;
  let order: number[] = [];
  for (let s = 0; s < steps; s++) {
    const total: Record<string, Tensor> = {};
    for (let i = 0; i < perStep; i++) {
      const at = (s * perStep + i) % rows.length;
      if (at === 0) order = shuffled(rows.length, seed, layers.length, (s * perStep + i) / rows.length);
      const pass = original.pass([rows[order[at]]]);
      const target = predictions(original, pass);
      const share = -1 / (perStep * rows[0].length);
      const lossOf = () =>
        scope(() => mul(sum(mul(target, logProbabilities(original, config, layers, pass))), share));
      const [loss, gradients] = valueAndGrad(lossOf as (own: typeof owner) => Tensor)(owner);
      checkLoss(loss);
      target.dispose();
      freePass(pass);
      for (const [name, gradient] of Object.entries(gradients)) {
        if (total[name] === undefined) total[name] = gradient;
        else {
          addInto(total[name], total[name], gradient);
          gradient.dispose();
        }
      }
      await eventLoopTurn();
    }
    optimizer.update(owner, total);
    onStep();
  }
  for (const tensor of Object.values(optimizer.tensors)) tensor.dispose();
}

/** The original's probabilities, `[1, T, V]`. */
function predictions(original: OpenedDecoder, pass: DecoderPass): Tensor {
  let x = original.embed(pass);
  for (let index = 0; index < original.layers.length; index++) {
    const next = original.layer(pass, index, x);
    x.dispose();
    x = next;
  }
  return scope(() => {
    const out = softmax(original.logits(x));
    x.dispose();
    return out;
  });
}

/** The converted model's, differentiable in the layers' weights. */
function logProbabilities(
  original: OpenedDecoder,
  config: DecoderConfig,
  layers: readonly DecoderLayer[],
  pass: DecoderPass,
): Tensor {
  let x = original.embed(pass);
  for (const [index, layer] of layers.entries()) {
    const input = x;
    x = scope(() => decoderLayer(config, layer, pass, index, input));
    input.dispose();
  }
  return scope(() => logSoftmax(original.logits(x)));
}
