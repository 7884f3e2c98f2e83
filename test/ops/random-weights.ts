/** Stored weights of any dtype, for tests of `linear`. */
import { byteLengthOf, type DType, isBlockDType } from '../../src/tensor/dtype.ts';
import { encode } from '../../src/tensor/encode.ts';

/** Bytes of n numbers in [-1, 1), or blocks of random codes with scales whose exponents are small. */
export function randomWeights(dtype: DType, n: number, uniform: () => number): Uint8Array<ArrayBuffer> {
  if (!isBlockDType(dtype))
    return encode(
      dtype,
      Float32Array.from({ length: n }, () => 2 * uniform() - 1),
    );
  const bytes = Uint8Array.from({ length: byteLengthOf(dtype, n) }, () => 256 * uniform());
  const block = byteLengthOf(dtype, dtype.endsWith('_k') ? 256 : 32);
  const halves = { q6_k: [209], q8_0: [1], q4_0: [1], q5_0: [1] }[dtype as string] ?? [1, 3];
  for (let at = 0; at < bytes.length; at += block)
    for (const i of halves) bytes[at + i] = 0x20 | (bytes[at + i] & 0x83);
  return bytes;
}
