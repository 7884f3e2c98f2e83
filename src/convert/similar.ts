/**
 * The method `similar`: heads with similar activations share a group and are aligned before they are merged
 * (align-heads.ts). Query heads and the columns of o are permuted and transformed to match, so grouping and
 * alignment alone do not change the model.
 */

import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import type { DecoderConfig } from '../models/decoder-config.ts';
import { freePass } from '../models/decoder-pass.ts';
import type { DecoderDescription } from '../models/families/family.ts';
import { eventLoopTurn } from '../tensor/event-loop.ts';
import { alignFreely, alignPlane, blockOf, squareRoots, times, transposed } from './align-heads.ts';
import { calibrationRowLength, calibrationRows, calibrationTokens } from './calibration-rows.ts';
import { similarGroups } from './group-heads.ts';
import type { HeadMix, LayerMix } from './head-mix.ts';
import { type HeadStatistics, outputMoments, seenStatistics } from './head-statistics.ts';
import { OpenedDecoder } from './opened-decoder.ts';

/** Tokens of the calibration text that are used, in one pass. */
const TOKENS = 2048;

interface SimilarOptions {
  /**
   * Without it: random tokens. (SmolLM2 at K = 1 has loss 5.5 with a text, 7.1 with random tokens, 10.0 by the
   * mean, and 11.7 from the weights alone, taking layer inputs as white noise.)
   */
  readonly calibration?: string;
  readonly signal?: AbortSignal;
  readonly onLayer?: (done: number, total: number) => void;
}

/**
 * One head mix per layer, from one pass over the calibration text.
 * @throws Error when there is a text but no tokenizer, or it is too short; the signal's reason
 */
export async function similarMixes(
  checkpoint: Checkpoint,
  description: DecoderDescription,
  after: number,
  { calibration, signal, onLayer }: SimilarOptions,
): Promise<LayerMix[]> {
  const { config } = description;
  if (config.clipQueryKeyValue !== undefined) {
    throw new RangeError(
      'convert: expected method mean, first or random for a model that clamps q, k and v, which does not commute with the alignment of heads, got similar',
    );
  }
  const mixes: LayerMix[] = [];
  const decoder = await OpenedDecoder.of(checkpoint, description, signal);
  try {
    const pass = decoder.pass(firstRows(decoder, checkpoint.path, calibration));
    let x = decoder.embed(pass);
    for (let i = 0; i < config.numLayers; i++) {
      const output = outputMoments(config, decoder.layers[i].attentionOutput.weight);
      const next = decoder.layer(pass, i, x, (seen) => {
        mixes.push(similarMix(config, seenStatistics(config, seen, output), after));
      });
      x.dispose();
      x = next;
      onLayer?.(i + 1, config.numLayers);
      await eventLoopTurn();
      signal?.throwIfAborted();
    }
    x.dispose();
    freePass(pass);
  } finally {
    decoder.dispose();
  }
  return mixes;
}

function firstRows(decoder: OpenedDecoder, path: string, text: string | undefined): number[][] {
  const { config } = decoder;
  const length = calibrationRowLength(config);
  const count = Math.ceil(TOKENS / length);
  if (text === undefined) {
    let state = 1;
    const next = () => {
      state = (state * 1103515245 + 12345) % 2 ** 31;
      return Math.floor((state / 2 ** 31) * config.vocabSize);
    };
    return Array.from({ length: count }, () => Array.from({ length }, next));
  }
  const tokens = calibrationTokens(decoder, text, path, 'the calibration text');
  const rows = calibrationRows(decoder, tokens, 'convert: expected calibration of at least 2 tokens');
  return rows.slice(0, count);
}

/** One layer's groups and alignments. */
export function similarMix(config: DecoderConfig, statistics: HeadStatistics, after: number): LayerMix {
  const { numHeads: N, numKeyValueHeads: K, headDim: H } = config;
  const readers = (head: number) => Array.from({ length: N / K }, (_, i) => head * (N / K) + i);
  const metrics = Array.from({ length: K }, (_, head) => sum(readers(head).map((n) => statistics.output[n])));
  const queries = Array.from({ length: K }, (_, head) => sum(readers(head).map((n) => statistics.query[n])));
  const similarity = headSimilarity(statistics, K, H, { key: queries, value: metrics });
  const groups = similarGroups(similarity, K, after);
  const [query, key, value, output]: HeadMix[][] = [[], [], [], []];
  const restore = { key: new Array<Float64Array>(K), value: new Array<Float64Array>(K) };
  for (const heads of groups) {
    const values = alignFreely(
      gather(statistics.value, K * H, heads, H, dims(0, H)),
      heads.map((head) => metrics[head]),
      H,
    );
    // A norm between projection and rotation does not commute with these transforms.
    const keys = config.queryKeyNorm ? undefined : alignKeys(config, statistics.key, queries, heads);
    key.push(
      heads.map((head, j) => ({
        head,
        ...(keys ? { weight: 1, matrix: keys.pool[j] } : { weight: 1 / heads.length }),
      })),
    );
    value.push(heads.map((head, j) => ({ head, weight: 1, matrix: values.pool[j] })));
    heads.forEach((head, j) => {
      const back = keys?.restore[j];
      restore.key[head] = back ?? identity(H);
      restore.value[head] = values.restore[j];
      for (const n of readers(head)) {
        query.push([{ head: n, weight: 1, ...(back && { matrix: transposed(back, H) }) }]);
        output.push([{ head: n, weight: 1, matrix: transposed(values.restore[j], H) }]);
      }
    });
  }
  return { query, key, value, output, groups, restore };
}

/** Keys: a complex factor per plane that RoPE rotates, any matrix on the other dims. */
function alignKeys(
  { headDim: H, numKeyValueHeads: K, rope }: DecoderConfig,
  moments: Float64Array,
  queries: readonly Float64Array[],
  heads: readonly number[],
): { pool: Float64Array[]; restore: Float64Array[] } {
  const rotary = rope?.rotaryDim ?? 0;
  const pool = heads.map(() => new Float64Array(H * H));
  const restore = heads.map(() => new Float64Array(H * H));
  const half = rotary / 2;
  const R = heads.length;
  for (let i = 0; i < half; i++) {
    const [a, b] = rope?.interleaved ? [2 * i, 2 * i + 1] : [i, i + half];
    const re = new Float64Array(R * R);
    const im = new Float64Array(R * R);
    heads.forEach((left, j) => {
      heads.forEach((right, l) => {
        const at = (p: number, q: number) => moments[(left * H + p) * K * H + right * H + q];
        re[j * R + l] = at(a, a) + at(b, b);
        im[j * R + l] = at(b, a) - at(a, b);
      });
    });
    const energies = heads.map((head) => queries[head][a * H + a] + queries[head][b * H + b]);
    const plane = alignPlane(re, im, energies);
    heads.forEach((_, j) => {
      putComplex(pool[j], H, a, b, plane.pool[j]);
      putComplex(restore[j], H, a, b, plane.restore[j]);
    });
  }
  const free = dims(rotary, H);
  if (free.length > 0) {
    const h = free.length;
    const metrics = heads.map((head) => gather(queries[head], H, [0], H, free));
    const rest = alignFreely(gather(moments, K * H, heads, H, free), metrics, h);
    heads.forEach((_, j) => {
      for (let r = 0; r < h; r++) {
        for (let c = 0; c < h; c++) {
          pool[j][free[r] * H + free[c]] = rest.pool[j][r * h + c];
          restore[j][free[r] * H + free[c]] = rest.restore[j][r * h + c];
        }
      }
    });
  }
  return { pool, restore };
}

function putComplex(
  matrix: Float64Array,
  H: number,
  a: number,
  b: number,
  [re, im]: readonly [number, number],
): void {
  matrix[a * H + a] = re;
  matrix[a * H + b] = -im;
  matrix[b * H + a] = im;
  matrix[b * H + b] = re;
}

/**
 * The similarity of heads, `[K, K]`, 0 to 1: the mean over keys and values of `|C_jl| / sqrt(|C_jj| |C_ll|)`,
 * with C the second moments of two heads and || the Frobenius norm.
 * @param metrics `[H, H]` per head: weights of the directions of its keys and values, by the error that
 * attention would see; default the identity
 */
export function headSimilarity(
  { key, value }: Pick<HeadStatistics, 'key' | 'value'>,
  K: number,
  H: number,
  metrics?: { readonly key: readonly Float64Array[]; readonly value: readonly Float64Array[] },
): Float64Array {
  const out = new Float64Array(K * K);
  for (const [moments, weights] of [
    [key, metrics?.key],
    [value, metrics?.value],
  ] as const) {
    const roots = weights?.map((metric) => squareRoots(metric, H).root);
    const common = new Float64Array(K * K);
    for (let j = 0; j < K; j++) {
      for (let l = 0; l <= j; l++) {
        let block = blockOf(moments, K * H, j, l, H);
        if (roots) block = times(times(roots[j], block, H, H), roots[l], H, H);
        const size = Math.sqrt(block.reduce((total, entry) => total + entry * entry, 0));
        common[j * K + l] = size;
        common[l * K + j] = size;
      }
    }
    for (let j = 0; j < K; j++) {
      for (let l = 0; l < K; l++) {
        const alone = Math.sqrt(common[j * K + j] * common[l * K + l]);
        out[j * K + l] += alone > 0 ? common[j * K + l] / alone / 2 : 0;
      }
    }
  }
  return out;
}

/** The submatrix of some dims of some heads. */
function gather(
  matrix: Float64Array,
  side: number,
  heads: readonly number[],
  H: number,
  own: readonly number[],
): Float64Array {
  const rows = heads.flatMap((head) => own.map((dim) => head * H + dim));
  const out = new Float64Array(rows.length ** 2);
  rows.forEach((row, i) => {
    rows.forEach((column, j) => {
      out[i * rows.length + j] = matrix[row * side + column];
    });
  });
  return out;
}

function dims(first: number, end: number): number[] {
  return Array.from({ length: end - first }, (_, i) => first + i);
}

function identity(n: number): Float64Array {
  return Float64Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? 1 : 0));
}

function sum(matrices: readonly Float64Array[]): Float64Array {
  const out = new Float64Array(matrices[0].length);
  for (const matrix of matrices) for (let i = 0; i < out.length; i++) out[i] += matrix[i];
  return out;
}
