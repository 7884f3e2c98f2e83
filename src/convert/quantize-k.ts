/**
 * Rounds values to ggml's K-quants, blocks of 256 whose groups have small integer scales: Q4_K and Q5_K
 * (groups of 32 with a scale and a minimum of 6 bits each), Q6_K (groups of 16 with a scale of 8 bits).
 *
 * Each group takes the step, of several around (max - min) / codes, whose codes fit best: for given codes the
 * best scale and minimum follow from least squares. Large values count more, as they do in ggml.
 *
 * Source: the block formats of ggml-common.h; the formats' description in llama.cpp's pull request 1684.
 */
import { halfBytes } from './half-bytes.ts';

/** Steps tried for each group, as codes more or less than the largest one. */
const TRIALS: readonly number[] = Array.from({ length: 21 }, (_, i) => -1 + i / 10);

interface Fit {
  readonly scale: number;
  /** Subtracted; not negative. */
  readonly min: number;
}

export function encodeQ4KBlock(values: ArrayLike<number>, out: Uint8Array): void {
  const codes = encodeGroups(values, 15, out);
  for (let pair = 0; pair < 4; pair++) {
    for (let i = 0; i < 32; i++) {
      out[16 + 32 * pair + i] = codes[64 * pair + i] | (codes[64 * pair + 32 + i] << 4);
    }
  }
}

export function encodeQ5KBlock(values: ArrayLike<number>, out: Uint8Array): void {
  const codes = encodeGroups(values, 31, out);
  out.fill(0, 16, 48);
  for (let pair = 0; pair < 4; pair++) {
    for (let i = 0; i < 32; i++) {
      const [first, second] = [codes[64 * pair + i], codes[64 * pair + 32 + i]];
      out[48 + 32 * pair + i] = (first & 15) | ((second & 15) << 4);
      out[16 + i] |= ((first >> 4) << (2 * pair)) | ((second >> 4) << (2 * pair + 1));
    }
  }
}

/**
 * Writes d, dmin and the twelve bytes of scales and minimums of eight groups.
 * @returns the 256 codes
 */
function encodeGroups(values: ArrayLike<number>, most: number, out: Uint8Array): Uint8Array {
  const fits = Array.from({ length: 8 }, (_, group) => fitWithMinimum(values, 32 * group, most));
  const d = halfBytes(Math.max(...fits.map(({ scale }) => scale)) / 63, out, 0);
  const dmin = halfBytes(Math.max(...fits.map(({ min }) => min)) / 63, out, 2);
  const small = (value: number, step: number) => (step === 0 ? 0 : Math.min(63, Math.round(value / step)));
  const scales = fits.map(({ scale }) => small(scale, d));
  const mins = fits.map(({ min }) => small(min, dmin));
  // The upper two bits of groups 4 to 7 are stored in the upper bits of groups 0 to 3.
  for (let g = 0; g < 4; g++) {
    out[4 + g] = scales[g] | ((scales[g + 4] >> 4) << 6);
    out[8 + g] = mins[g] | ((mins[g + 4] >> 4) << 6);
    out[12 + g] = (scales[g + 4] & 15) | ((mins[g + 4] & 15) << 4);
  }
  const codes = new Uint8Array(256);
  for (let i = 0; i < 256; i++) {
    const scale = d * scales[i >> 5];
    if (scale !== 0) codes[i] = clamp(Math.round((values[i] + dmin * mins[i >> 5]) / scale), 0, most);
  }
  return codes;
}

/** x ~ scale * code - min with codes from 0 to `most`, over 32 values. */
function fitWithMinimum(values: ArrayLike<number>, from: number, most: number): Fit {
  let low = 0; // a minimum above 0 cannot be stored
  let high = Number.NEGATIVE_INFINITY;
  let squares = 0;
  for (let i = from; i < from + 32; i++) {
    low = Math.min(low, values[i]);
    high = Math.max(high, values[i]);
    squares += values[i] * values[i];
  }
  if (!(high > low)) return { scale: 0, min: -low };
  const spread = Math.sqrt(squares / 32);
  let best: Fit = { scale: (high - low) / most, min: -low };
  let least = Number.POSITIVE_INFINITY;
  for (const trial of TRIALS) {
    const inverse = (most + trial) / (high - low);
    let [w, wc, wcc, wx, wcx, wxx] = [0, 0, 0, 0, 0, 0];
    for (let i = from; i < from + 32; i++) {
      const x = values[i];
      const code = clamp(Math.round((x - low) * inverse), 0, most);
      const weight = spread + Math.abs(x);
      w += weight;
      wc += weight * code;
      wcc += weight * code * code;
      wx += weight * x;
      wcx += weight * code * x;
      wxx += weight * x * x;
    }
    const det = w * wcc - wc * wc;
    if (!(det > 0)) continue;
    let scale = (w * wcx - wx * wc) / det;
    let offset = (wcc * wx - wc * wcx) / det;
    if (offset > 0) {
      offset = 0;
      scale = wcx / wcc;
    }
    const error =
      wxx +
      scale * scale * wcc +
      offset * offset * w -
      2 * scale * wcx -
      2 * offset * wx +
      2 * scale * offset * wc;
    if (scale > 0 && error < least) {
      least = error;
      best = { scale, min: -offset };
    }
  }
  return best;
}

/**
 * 128 bytes of low nibbles, 64 of upper two bits, 16 int8 scales of 16 values each, d:
 * `d * scale * (code - 32)`.
 */
export function encodeQ6KBlock(values: ArrayLike<number>, out: Uint8Array): void {
  const fits = Array.from({ length: 16 }, (_, group) => fitScale(values, 16 * group, 32));
  const largest = fits.reduce((most, scale) => (Math.abs(scale) > Math.abs(most) ? scale : most), 0);
  // With its sign the largest scale has the code -128.
  const d = halfBytes(largest / -128, out, 208);
  const scales = fits.map((scale) => (d === 0 ? 0 : clamp(Math.round(scale / d), -128, 127)));
  out.fill(0, 0, 192);
  for (let group = 0; group < 16; group++) out[192 + group] = scales[group];
  for (let i = 0; i < 256; i++) {
    const scale = d * scales[i >> 4];
    const code = scale === 0 ? 32 : clamp(Math.round(values[i] / scale) + 32, 0, 63);
    const [upper, t, lane] = [i >> 7, (i >> 5) & 3, i & 31];
    out[64 * upper + 32 * (t & 1) + lane] |= t < 2 ? code & 15 : (code & 15) << 4;
    out[128 + 32 * upper + lane] |= (code >> 4) << (2 * t);
  }
}

/** x ~ scale * code with codes from -half to half - 1, over 16 values. */
function fitScale(values: ArrayLike<number>, from: number, half: number): number {
  let extreme = 0;
  for (let i = from; i < from + 16; i++) if (Math.abs(values[i]) > Math.abs(extreme)) extreme = values[i];
  if (extreme === 0) return 0;
  let best = extreme / -half;
  let most = 0;
  for (const trial of TRIALS) {
    // The extreme value has a code near -half, of which there is one more than on the other side.
    const inverse = -(half + trial) / extreme;
    let [wcx, wcc] = [0, 0];
    for (let i = from; i < from + 16; i++) {
      const x = values[i];
      const code = clamp(Math.round(x * inverse), -half, half - 1);
      wcx += x * x * code * x;
      wcc += x * x * code * code;
    }
    // What least squares explains of the values' weighted squares.
    if (wcc > 0 && wcx * wcx > most * wcc) {
      most = (wcx * wcx) / wcc;
      best = wcx / wcc;
    }
  }
  return best;
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}
