/**
 * Scalar conversions of the 16-bit float types.
 *
 * Source: IEEE 754 binary16; bfloat16 = upper half of binary32 (round to nearest even).
 */

/** One f32 and its bits. */
const float = new Float32Array(1);
const word = new Uint32Array(float.buffer);

/** f16 bits to number; exact. */
export function halfToNumber(bits: number): number {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const sign = bits & 0x8000 ? -1 : 1;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/**
 * The bits of a number as f32, rounded to odd: the last bit is set when digits were lost. This avoids double
 * rounding in the next conversion (1 + 2^-11 + 2^-40 lies above the midpoint, but its nearest f32 is the
 * midpoint).
 */
function oddBits(value: number): number {
  float[0] = value;
  const rounded = float[0];
  if (rounded === value || Number.isNaN(value)) return word[0];
  return (Math.abs(rounded) > Math.abs(value) ? word[0] - 1 : word[0]) | 1;
}

/** Number to f16 bits, rounding once to nearest even; overflow gives infinity. */
export function numberToHalf(value: number): number {
  const bits = oddBits(value);
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x47800000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Subnormal result: the value in units of 2^-24, rounded half to even.
    const units = Math.abs(value) * 2 ** 24;
    const floor = Math.floor(units);
    const rest = units - floor;
    return sign | (rest > 0.5 || (rest === 0.5 && floor & 1) ? floor + 1 : floor);
  }
  const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1);
  return sign | ((rounded - 0x38000000) >>> 13);
}

/** bf16 bits to number; exact. */
export function bfloatToNumber(bits: number): number {
  word[0] = bits << 16;
  return float[0];
}

/** Number to bf16 bits, rounding once to nearest even. */
export function numberToBfloat(value: number): number {
  const bits = oddBits(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}
