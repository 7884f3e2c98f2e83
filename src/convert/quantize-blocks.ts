/**
 * Rounds values to ggml's blocks of 32: Q4_0, Q5_0, Q5_1 and Q8_0, with the bytes that ggml and its package
 * gguf write. A scale is computed in f32 and stored as f16; codes are rounded with the scale before that.
 *
 * Source: the block formats of ggml-common.h; gguf-py quants.py (tools/golden/quantized_blocks.py).
 */
import { halfBytes } from './half-bytes.ts';

const LENGTH = 32;

/** Writes the codes of one block, `values[0 … 31]`, to `out`. */
export type BlockEncoder = (values: ArrayLike<number>, out: Uint8Array) => void;

/** scale = x of the largest magnitude / -8, so that this one has the code 0; code = x / scale + 8. */
export function encodeQ4Block(values: ArrayLike<number>, out: Uint8Array): void {
  const scale = Math.fround(extreme(values) / -8);
  const inverse = inverseOf(scale);
  halfBytes(scale, out, 0);
  const code = (i: number) => nearest(values[i], inverse, 8.5, 15);
  for (let i = 0; i < 16; i++) out[2 + i] = code(i) | (code(i + 16) << 4);
}

/** As Q4_0 with codes to 31, whose fifth bits stand before the nibbles. */
export function encodeQ5Block(values: ArrayLike<number>, out: Uint8Array): void {
  const scale = Math.fround(extreme(values) / -16);
  const inverse = inverseOf(scale);
  halfBytes(scale, out, 0);
  fifthBits(out.subarray(2), (i) => nearest(values[i], inverse, 16.5, 31));
}

/** scale = (max - min) / 31; code = (x - min) / scale. */
export function encodeQ5MinBlock(values: ArrayLike<number>, out: Uint8Array): void {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < LENGTH; i++) {
    low = Math.min(low, values[i]);
    high = Math.max(high, values[i]);
  }
  const scale = Math.fround(Math.fround(high - low) / 31);
  const inverse = inverseOf(scale);
  halfBytes(scale, out, 0);
  halfBytes(low, out, 2);
  fifthBits(out.subarray(4), (i) => nearest(Math.fround(values[i] - low), inverse, 0.5, 31));
}

/** scale = max |x| / 127; code = x / scale rounded, halves away from zero. */
export function encodeQ8Block(values: ArrayLike<number>, out: Uint8Array): void {
  const scale = Math.fround(Math.abs(extreme(values)) / 127);
  const inverse = inverseOf(scale);
  halfBytes(scale, out, 0);
  for (let i = 0; i < LENGTH; i++) {
    const scaled = Math.fround(values[i] * inverse);
    const whole = Math.floor(Math.abs(scaled) + 0.5);
    out[2 + i] = scaled < 0 ? -whole : whole;
  }
}

/** Four bytes of fifth bits, then 16 of low nibbles. */
function fifthBits(out: Uint8Array, code: (i: number) => number): void {
  out.fill(0, 0, 4);
  for (let i = 0; i < 16; i++) {
    const [first, second] = [code(i), code(i + 16)];
    out[4 + i] = (first & 15) | ((second & 15) << 4);
    out[i >> 3] |= (first >> 4) << (i & 7);
    out[2 + (i >> 3)] |= (second >> 4) << (i & 7);
  }
}

/** The value of the largest magnitude, the first of several. */
function extreme(values: ArrayLike<number>): number {
  let found = 0;
  for (let i = 0; i < LENGTH; i++) if (Math.abs(values[i]) > Math.abs(found)) found = values[i];
  return found;
}

function inverseOf(scale: number): number {
  return scale === 0 ? 0 : Math.fround(1 / scale);
}

/** `x * inverse + shift` in f32, without its fraction, at most `most`. */
function nearest(x: number, inverse: number, shift: number, most: number): number {
  return Math.min(most, Math.max(0, Math.trunc(Math.fround(Math.fround(x * inverse) + shift))));
}
