/** Stored weights of any dtype, for tests of `linear`. */
import { byteLengthOf, DTYPES, type DType, isBlockDType } from '../../src/tensor/dtype.ts';
import { encode } from '../../src/tensor/encode.ts';

/** Bytes of n numbers in [-1, 1), or blocks of random codes with scales whose exponents are small. */
export function randomWeights(dtype: DType, n: number, uniform: () => number): Uint8Array<ArrayBuffer> {
  if (!isBlockDType(dtype))
    return encode(
      dtype,
      Float32Array.from({ length: n }, () => 2 * uniform() - 1),
    );
  const bytes = Uint8Array.from({ length: byteLengthOf(dtype, n) }, () => 256 * uniform());
  for (let at = 0; at < bytes.length; at += DTYPES[dtype].blockBytes) {
    if (dtype === 'mxfp4') bytes[at] = 0x7c | (bytes[at] & 3);
    for (const i of HALVES[dtype] ?? [1, 3]) bytes[at + i] = 0x20 | (bytes[at + i] & 0x83);
  }
  return bytes;
}

/** The upper bytes of a block's f16 scales, where they are not [1, 3]. MXFP4 has an exponent in byte 0. */
const HALVES: Readonly<Partial<Record<DType, readonly number[]>>> = {
  q8_0: [1],
  q4_0: [1],
  q5_0: [1],
  q6_k: [209],
  q2_k: [81, 83],
  q3_k: [109],
  iq4_xs: [1],
  iq4_nl: [1],
  mxfp4: [],
};
