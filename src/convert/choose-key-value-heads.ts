/**
 * The number of key/value heads for a loss or a cache size: each divisor of K is tried by the method `similar`
 * in memory, layer by layer, and its loss is measured before any training.
 */
import { aFunction, aNumber, anything, aString, checkPositiveInteger } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { readyBackend } from '../backend/registry.ts';
import { openSource } from '../checkpoint/open-checkpoint.ts';
import { aSource, type ModelSource, SOURCE_OPTIONS, type SourceOptions } from '../files/source.ts';
import { decoderLayer } from '../models/decoder.ts';
import type { DecoderConfig } from '../models/decoder-config.ts';
import { freePass } from '../models/decoder-pass.ts';
import { describeModel } from '../models/describe-model.ts';
import { eventLoopTurn } from '../tensor/event-loop.ts';
import { scope } from '../tensor/scope.ts';
import { checkHeads } from './check-heads.ts';
import { driftRows } from './drift.ts';
import type { LayerMix } from './head-mix.ts';
import { summary } from './logit-drift.ts';
import { freeMixedLayer, mixedLayer } from './mixed-layer.ts';
import { OpenedDecoder } from './opened-decoder.ts';
import { similarMixes } from './similar.ts';

const OP = 'chooseKeyValueHeads';

/** Options of `chooseKeyValueHeads`: `target` or `keyValueBytes`, and these. */
export interface ChooseKeyValueHeadsOptions extends SourceOptions {
  /** A Hugging Face folder with safetensors, or a `.gguf` file, with a tokenizer. */
  readonly from: ModelSource;
  /** Text that groups and aligns heads, as `calibration` of `convertCheckpoint`. */
  readonly calibration: string;
  /** Text on which losses are measured, its first 8 rows, as `measureDrift` does; no part of `calibration`. */
  readonly text: string;
  /**
   * The most nats per token that the loss may be above the original's, more than 0: the fewest heads that keep
   * to it.
   */
  readonly target?: number;
  /**
   * The most bytes of KV cache per token, as f16, fewer than the model's own: the most heads that fit.
   */
  readonly keyValueBytes?: number;
  /** Called after each layer of each trial, such as with `trying K=2`. */
  readonly onProgress?: (done: number, total: number, activity: string) => void;
}

const OPTIONS = optionKinds<ChooseKeyValueHeadsOptions>({
  ...SOURCE_OPTIONS,
  from: anything,
  calibration: aString,
  text: aString,
  target: aNumber,
  keyValueBytes: checkPositiveInteger,
  onProgress: aFunction,
});

/** A number of heads, tried. */
export interface KeyValueHeadsTrial {
  /** K', or the model's own K. */
  readonly numKeyValueHeads: number;
  /** Of the KV cache per token, as f16. */
  readonly keyValueBytes: number;
  /** Cross-entropy in nats per token, right after merging. */
  readonly loss: number;
  /** `loss` less the original's. */
  readonly above: number;
}

/** What `chooseKeyValueHeads` found. */
export interface KeyValueHeadsChoice {
  /** The choice; the model's own K where no fewer heads keep to the target. */
  readonly numKeyValueHeads: number;
  /** All divisors of K from 1 on, K itself last. */
  readonly trials: readonly KeyValueHeadsTrial[];
}

/**
 * Chooses the number of key/value heads to convert a model to. Losses are those right after merging by
 * `similar`: distillation and uptraining lower them.
 * @throws TypeError unless there is either a target or keyValueBytes, RangeError for a
 * target of 0 or less, when one head has more bytes or the model's own no more, for a text that is too short, or
 * for a model with one head or latent attention; Error without a tokenizer
 * @example
 * const [calibration, heldOut] = [text.slice(0, 20_000), text.slice(20_000)];
 * const options = { from: 'llama', calibration, text: heldOut, target: 0.5 };
 * const { numKeyValueHeads } = await chooseKeyValueHeads(options);
 * await convertCheckpoint({ from: 'llama', to: 'smaller', numKeyValueHeads, calibration });
 */
export async function chooseKeyValueHeads(options: ChooseKeyValueHeadsOptions): Promise<KeyValueHeadsChoice> {
  checkOptions(OP, options, OPTIONS);
  aSource(OP, 'from', options.from);
  aString(OP, 'calibration', options.calibration);
  aString(OP, 'text', options.text);
  const { calibration, text, target, keyValueBytes, token, signal, cache } = options;
  if ((target === undefined) === (keyValueBytes === undefined)) {
    const got = target === undefined ? 'none' : 'both';
    throw new TypeError(`${OP}: expected either target or keyValueBytes, got ${got}`);
  }
  if (target !== undefined && !(target > 0)) {
    throw new RangeError(`${OP}: expected target above 0 nats, got ${target}`);
  }
  await using checkpoint = await openSource(OP, options.from, { token, signal, cache });
  const description = await describeModel(checkpoint, await readyBackend());
  const { config } = description;
  checkHeads(config, 1, false);
  const divisors = Array.from({ length: config.numKeyValueHeads }, (_, i) => i + 1).filter(
    (K) => config.numKeyValueHeads % K === 0,
  );
  const bytes = divisors.map((K) => bytesPerToken(config, K));
  const own = bytes[bytes.length - 1];
  if (keyValueBytes !== undefined && (keyValueBytes < bytes[0] || keyValueBytes >= own)) {
    throw new RangeError(
      `${OP}: expected keyValueBytes from ${bytes[0]}, those of one head, to below ${own}, those of the model's K=${config.numKeyValueHeads}, got ${keyValueBytes}`,
    );
  }
  const decoder = await OpenedDecoder.of(checkpoint, description, signal);
  try {
    const { tokenizer } = decoder;
    if (tokenizer === undefined) {
      throw new Error(`${checkpoint.path}: expected a tokenizer for the text, got none`);
    }
    const rows = driftRows(OP, decoder, tokenizer, { name: 'text', text });
    const total = (2 * divisors.length - 1) * config.numLayers;
    let done = 0;
    const losses: number[] = [];
    for (const K of divisors) {
      const onLayer = () => {
        signal?.throwIfAborted();
        options.onProgress?.(++done, total, `trying K=${K}`);
      };
      const mixes =
        K === config.numKeyValueHeads
          ? undefined
          : await similarMixes(checkpoint, description, K, { calibration, signal, onLayer });
      losses.push(await lossOf(decoder, rows, mixes, onLayer));
    }
    const trials = divisors.map((numKeyValueHeads, i): KeyValueHeadsTrial => {
      const loss = losses[i];
      return { numKeyValueHeads, keyValueBytes: bytes[i], loss, above: loss - losses[losses.length - 1] };
    });
    const found =
      target === undefined
        ? trials.findLast((trial) => trial.keyValueBytes <= (keyValueBytes as number))
        : trials.find(({ above }) => above <= target);
    return { numKeyValueHeads: found?.numKeyValueHeads ?? config.numKeyValueHeads, trials };
  } finally {
    decoder.dispose();
  }
}

/** Of f16 keys and values in all layers. */
function bytesPerToken({ numLayers, headDim: H }: DecoderConfig, numKeyValueHeads: number): number {
  return 2 * 2 * numLayers * numKeyValueHeads * H;
}

/** The mean cross-entropy of the model on the rows, with its heads merged by `mixes`. */
async function lossOf(
  decoder: OpenedDecoder,
  rows: readonly (readonly number[])[],
  mixes: readonly LayerMix[] | undefined,
  onLayer: () => void,
): Promise<number> {
  const own = decoder.config;
  const config: DecoderConfig = mixes ? { ...own, numKeyValueHeads: mixes[0].key.length } : own;
  const streams = rows.map((row) => {
    const pass = decoder.pass([row]);
    return { row, pass, x: decoder.embed(pass) };
  });
  try {
    for (const [index, old] of decoder.layers.entries()) {
      const layer = mixes ? mixedLayer(config, old, mixes[index]) : old;
      try {
        for (const stream of streams) {
          const before = stream.x;
          stream.x = scope(() => decoderLayer(config, layer, stream.pass, index, before));
          before.dispose();
        }
      } finally {
        if (mixes) freeMixedLayer(layer, old);
      }
      onLayer();
      await eventLoopTurn();
    }
    const sums = streams.map(({ row, x }) => {
      const logits = decoder.logits(x);
      const sum = crossEntropy(logits.dataSync() as Float32Array, row);
      logits.dispose();
      return sum;
    });
    const predicted = rows.reduce((count, row) => count + row.length - 1, 0);
    return sums.reduce((total, sum) => total + sum, 0) / predicted;
  } finally {
    for (const { pass, x } of streams) {
      freePass(pass);
      x.dispose();
    }
  }
}

/** Of all tokens of a row but its first. @param logits `[T, V]` */
function crossEntropy(logits: Float32Array, row: readonly number[]): number {
  const V = logits.length / row.length;
  return row.slice(1).reduce((total, id, t) => {
    const own = logits.subarray(t * V, (t + 1) * V);
    return total + summary(own).logSum - own[id];
  }, 0);
}
