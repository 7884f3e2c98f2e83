/** Writes f16 values into blocks. */
import { halfToNumber, numberToHalf } from '../tensor/half.ts';

/** Writes `value` as f16, two bytes from `at` on. @returns the value as stored */
export function halfBytes(value: number, out: Uint8Array, at: number): number {
  const bits = numberToHalf(value);
  out[at] = bits & 255;
  out[at + 1] = bits >> 8;
  return halfToNumber(bits);
}
