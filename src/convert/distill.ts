/**
 * Distillation layer by layer. Each converted layer learns to give the attention output of the original on a
 * text: q, k, v and o are trained, the rest of the layer stays. Layers are trained from first to last, each on
 * the converted model's own residual stream, and its target is what brings that stream to the original's, so
 * errors of earlier layers are corrected and do not pile up.
 *
 * An error counts in relation to the size of the residual stream at its token, since the next norm divides by
 * it; without that, the few tokens with very large activations would decide everything.
 *
 * Source: distillation of blocks by normalised squared error, as in Puzzle (arXiv 2411.19146, section 3).
 */
import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import { attentionBlock, attentionInput, decoderLayer } from '../models/decoder.ts';
import type { DecoderConfig } from '../models/decoder-config.ts';
import { type DecoderPass, freePass } from '../models/decoder-pass.ts';
import type { DecoderLayer } from '../models/decoder-weights.ts';
import type { DecoderDescription } from '../models/families/family.ts';
import { add, div, mul, sub } from '../ops/binary.ts';
import { cast } from '../ops/cast.ts';
import { mean } from '../ops/reduce.ts';
import { transpose } from '../ops/transpose.ts';
import { sqrt } from '../ops/unary.ts';
import { eventLoopTurn } from '../tensor/event-loop.ts';
import { scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { calibrationRowLength, calibrationRows, calibrationTokens } from './calibration-rows.ts';
import type { DistillSettings } from './distill-settings.ts';
import type { LayerMix, LayerWeights } from './head-mix.ts';
import { freeMixedLayer, mixedLayer } from './mixed-layer.ts';
import { OpenedDecoder } from './opened-decoder.ts';
import { type LayerBatch, trainLayer } from './train-layer.ts';

/** Tokens of the text that are used, and those of a step. */
const TOKENS = 32_768;
const BATCH_TOKENS = 1024;
const LEARNING_RATE = 2e-3;

export interface Distillation extends DistillSettings {
  /** Called after each step of each layer. */
  readonly onStep: (done: number, total: number) => void;
}

/** Rows of the text, and the residual streams of both models before the layer that is trained. */
interface Stream {
  readonly pass: DecoderPass;
  original: Tensor;
  converted: Tensor;
}

/**
 * @param mixes how heads are merged, where training begins
 * @returns the same with the trained weights
 */
export async function distilledLayers(
  checkpoint: Checkpoint,
  description: DecoderDescription,
  mixes: readonly LayerMix[],
  { source, steps, layers, seed, onStep }: Distillation,
): Promise<LayerMix[]> {
  const config: DecoderConfig = { ...description.config, numKeyValueHeads: mixes[0].key.length };
  const decoder = await OpenedDecoder.of(checkpoint, description);
  const streams: Stream[] = [];
  try {
    const rows = spreadRows(decoder, source, checkpoint.path);
    const perBatch = Math.max(1, Math.floor(BATCH_TOKENS / rows[0].length));
    for (let at = 0; at < rows.length; at += perBatch) {
      const pass = decoder.pass(rows.slice(at, at + perBatch));
      streams.push({ pass, original: decoder.embed(pass), converted: decoder.embed(pass) });
    }
    const out: LayerMix[] = [];
    let done = 0;
    for (const [index, mix] of mixes.entries()) {
      const layer = mixedLayer(config, decoder.layers[index], mix);
      const batches: LayerBatch[] = [];
      for (const stream of streams) {
        batches.push(layerBatch(decoder, config, stream, index));
        await eventLoopTurn();
      }
      if (layers.has(index)) {
        await trainLayer(config, layer, index, batches, {
          ...{ steps, learningRate: LEARNING_RATE, seed },
          onStep: () => onStep(++done, steps * layers.size),
        });
      }
      out.push({ ...mix, weights: weightsOf(layer) });
      for (const [i, stream] of streams.entries()) {
        advance(decoder, config, layer, index, stream);
        for (const tensor of [batches[i].input, batches[i].target, batches[i].weight]) tensor.dispose();
        await eventLoopTurn();
      }
      freeMixedLayer(layer, decoder.layers[index]);
    }
    return out;
  } finally {
    for (const { pass, original, converted } of streams) {
      freePass(pass);
      original.dispose();
      converted.dispose();
    }
    decoder.dispose();
  }
}

/**
 * Rows at equal distances from all of the text, so that each part of it counts.
 * @throws RangeError for an id that is no token of the model
 */
function spreadRows(decoder: OpenedDecoder, source: string | ArrayLike<number>, path: string): number[][] {
  const tokens =
    typeof source === 'string' ? calibrationTokens(decoder, source, path, 'the text of distill') : source;
  const { vocabSize } = decoder.config;
  for (let i = 0; i < tokens.length; i++) {
    const id = tokens[i];
    if (Number.isInteger(id) && id >= 0 && id < vocabSize) continue;
    throw new RangeError(`distill: expected token ids from 0 to ${vocabSize - 1}, got ${id}`);
  }
  const all = calibrationRows(decoder, tokens, 'distill: expected at least 2 tokens');
  const count = Math.min(all.length, Math.ceil(TOKENS / calibrationRowLength(decoder.config)));
  return Array.from({ length: count }, (_, i) => all[Math.floor((i * all.length) / count)]);
}

/** What the layer reads in the converted model, and what it is to add to the stream there. */
function layerBatch(
  decoder: OpenedDecoder,
  config: DecoderConfig,
  { pass, original, converted }: Stream,
  index: number,
): LayerBatch {
  const layer = decoder.layers[index];
  return scope(() => {
    const read = attentionInput(config, layer, original);
    const after = add(original, attentionBlock(decoder.config, layer, pass, index, read).output);
    return {
      pass,
      input: attentionInput(config, layer, converted),
      target: sub(after, converted),
      weight: div(1, sqrt(mean(mul(after, after), { axis: -1, keepDims: true }))),
    };
  });
}

/** Both streams after the layer. */
function advance(
  decoder: OpenedDecoder,
  config: DecoderConfig,
  layer: DecoderLayer,
  index: number,
  stream: Stream,
): void {
  const { pass, original, converted } = stream;
  stream.original = decoder.layer(pass, index, original);
  original.dispose();
  stream.converted = scope(() => decoderLayer(config, layer, pass, index, converted));
  converted.dispose();
}

function weightsOf(layer: DecoderLayer): LayerWeights {
  const floats = (x: Tensor) => Float32Array.from(x.dataSync(), Number);
  const [query, key, value] = layer.queryKeyValue.map(({ weight }) => floats(weight));
  const output = scope(() => floats(transpose(cast(layer.attentionOutput.weight, 'f32'))));
  return { query, key, value, output };
}
