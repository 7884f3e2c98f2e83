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
import { attentionInput, decoderLayer } from '../models/decoder.ts';
import type { DecoderConfig } from '../models/decoder-config.ts';
import { type DecoderPass, freePass, type SeenAttention } from '../models/decoder-pass.ts';
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
import { calibrationRows, calibrationTokens } from './calibration-rows.ts';
import type { DistillSettings } from './distill-settings.ts';
import { trainTogether } from './final-steps.ts';
import type { LayerMix, LayerWeights } from './head-mix.ts';
import { freeMixedLayer, mixedLayer } from './mixed-layer.ts';
import { OpenedDecoder } from './opened-decoder.ts';
import { type LayerBatch, trainLayer } from './train-layer.ts';
import type { TrainedLayers } from './trained-layers.ts';

/** Most tokens of the text that layers learn from, which bounds the memory, and tokens of a step. */
const TOKENS = 131_072;
const BATCH_TOKENS = 1024;
/** How often layers read each row, at least: more rows teach more than more passes over them. */
const PASSES = 4;
const LEARNING_RATE = 4e-3;
const FINAL_LEARNING_RATE = 3e-4;

export interface Distillation extends DistillSettings {
  /** Where trained layers are kept, and those of an interrupted distillation are. */
  readonly kept: TrainedLayers;
  /** Called after each step, with the steps of all layers or the final ones; `layer` is undefined in these. */
  readonly onStep: (done: number, total: number, layer: number | undefined) => void;
}

/** Rows of the text, and the residual streams of both models before the layer that is trained. */
interface Stream {
  readonly pass: DecoderPass;
  original: Tensor;
  converted: Tensor;
  /** The original's after the attention of the layer. */
  attended?: Tensor;
}

/**
 * @param mixes how heads are merged, where training begins
 * @returns the same with the trained weights
 */
export async function distilledLayers(
  checkpoint: Checkpoint,
  description: DecoderDescription,
  mixes: readonly LayerMix[],
  distillation: Distillation,
): Promise<LayerMix[]> {
  const config: DecoderConfig = { ...description.config, numKeyValueHeads: mixes[0].key.length };
  const decoder = await OpenedDecoder.of(checkpoint, description);
  try {
    const rows = rowsOf(decoder, distillation.source, checkpoint.path);
    const layers = await trainOneByOne(decoder, config, mixes, rows, distillation);
    if (distillation.finalSteps === 0) return layers;
    return await trainAll(decoder, config, layers, rows, distillation);
  } finally {
    decoder.dispose();
  }
}

async function trainOneByOne(
  decoder: OpenedDecoder,
  config: DecoderConfig,
  mixes: readonly LayerMix[],
  rows: readonly (readonly number[])[],
  { steps, layers, seed, kept, onStep }: Distillation,
): Promise<LayerMix[]> {
  const streams: Stream[] = [];
  try {
    const perBatch = rowsPerStep(rows);
    const most = Math.min(TOKENS / rows[0].length, (steps * perBatch) / PASSES);
    const used = spread(rows, Math.ceil(most));
    for (let at = 0; at < used.length; at += perBatch) {
      const pass = decoder.pass(used.slice(at, at + perBatch));
      streams.push({ pass, original: decoder.embed(pass), converted: decoder.embed(pass) });
      await eventLoopTurn();
    }
    const out: LayerMix[] = [];
    let done = 0;
    for (const [index, mix] of mixes.entries()) {
      const trained = kept.has(index) ? await kept.read(index) : undefined;
      const layer = mixedLayer(config, decoder.layers[index], { ...mix, weights: trained });
      for (const stream of streams) {
        advanceOriginal(decoder, stream, index);
        await eventLoopTurn();
      }
      if (layers.has(index) && trained === undefined) {
        const batches = streams.map((stream) => () => layerBatch(config, layer, stream));
        await trainLayer(config, layer, index, batches, {
          ...{ steps, learningRate: LEARNING_RATE, seed },
          onStep: () => onStep(++done, steps * layers.size, index),
        });
        await kept.write(index, weightsOf(layer), config.hiddenSize);
      } else if (layers.has(index)) done += steps;
      out.push({ ...mix, weights: trained ?? weightsOf(layer) });
      for (const stream of streams) {
        advanceConverted(config, layer, index, stream);
        await eventLoopTurn();
      }
      freeMixedLayer(layer, decoder.layers[index]);
    }
    return out;
  } finally {
    for (const { pass, original, converted, attended } of streams) {
      freePass(pass);
      for (const tensor of [original, converted, attended]) tensor?.dispose();
    }
  }
}

async function trainAll(
  decoder: OpenedDecoder,
  config: DecoderConfig,
  mixes: readonly LayerMix[],
  rows: readonly (readonly number[])[],
  { finalSteps: steps, seed, onStep }: Distillation,
): Promise<LayerMix[]> {
  const layers = mixes.map((mix, index) => mixedLayer(config, decoder.layers[index], mix));
  let done = 0;
  try {
    await trainTogether(decoder, config, layers, rows, {
      ...{ steps, seed, learningRate: FINAL_LEARNING_RATE, perStep: rowsPerStep(rows) },
      onStep: () => onStep(++done, steps, undefined),
    });
    return mixes.map((mix, index) => ({ ...mix, weights: weightsOf(layers[index]) }));
  } finally {
    for (const [index, layer] of layers.entries()) freeMixedLayer(layer, decoder.layers[index]);
  }
}

function rowsPerStep(rows: readonly (readonly number[])[]): number {
  return Math.max(1, Math.floor(BATCH_TOKENS / rows[0].length));
}

/** At most `count` of the rows, at equal distances, so that each part of the text counts. */
function spread<T>(rows: readonly T[], count: number): T[] {
  const kept = Math.min(rows.length, count);
  return Array.from({ length: kept }, (_, i) => rows[Math.floor((i * rows.length) / kept)]);
}

/**
 * All rows of the text.
 * @throws RangeError for an id that is no token of the model
 */
function rowsOf(decoder: OpenedDecoder, source: string | ArrayLike<number>, path: string): number[][] {
  const tokens =
    typeof source === 'string' ? calibrationTokens(decoder, source, path, 'the text of distill') : source;
  const { vocabSize } = decoder.config;
  for (let i = 0; i < tokens.length; i++) {
    const id = tokens[i];
    if (Number.isInteger(id) && id >= 0 && id < vocabSize) continue;
    throw new RangeError(`distill: expected token ids from 0 to ${vocabSize - 1}, got ${id}`);
  }
  return calibrationRows(decoder, tokens, 'distill: expected at least 2 tokens');
}

function advanceOriginal(decoder: OpenedDecoder, stream: Stream, index: number): void {
  const { pass, original } = stream;
  const { next, attended } = scope(() => {
    let attended = original;
    const observe = ({ output }: SeenAttention) => {
      attended = add(original, output);
    };
    const layer = decoder.layers[index];
    const next = decoderLayer(decoder.config, layer, { ...pass, observe }, index, original);
    return { next, attended };
  });
  original.dispose();
  Object.assign(stream, { original: next, attended });
}

function advanceConverted(config: DecoderConfig, layer: DecoderLayer, index: number, stream: Stream): void {
  const { pass, converted, attended } = stream;
  stream.converted = scope(() => decoderLayer(config, layer, pass, index, converted));
  converted.dispose();
  attended?.dispose();
  stream.attended = undefined;
}

/** What the layer reads in the converted model, and what it is to add to the stream there. */
function layerBatch(
  config: DecoderConfig,
  layer: DecoderLayer,
  { pass, converted, attended = converted }: Stream,
): LayerBatch {
  return {
    pass,
    input: attentionInput(config, layer, converted),
    target: sub(attended, converted),
    weight: div(1, sqrt(mean(mul(attended, attended), { axis: -1, keepDims: true }))),
  };
}

function weightsOf(layer: DecoderLayer): LayerWeights {
  const floats = (x: Tensor) => Float32Array.from(x.dataSync(), Number);
  const [query, key, value] = layer.queryKeyValue.map(({ weight }) => floats(weight));
  const output = scope(() => floats(transpose(cast(layer.attentionOutput.weight, 'f32'))));
  return { query, key, value, output };
}
