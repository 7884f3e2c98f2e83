/** Encodes `q8_0` blocks, for K and V in an 8-bit cache on the reference backend. */
import { DTYPES } from './dtype.ts';
import { halfToNumber, numberToHalf } from './half.ts';

/**
 * The same arithmetic in f32 as `encode_q8_0` of kernels/quant.h, so that both write the same bytes: scale =
 * largest magnitude / 127 as f16, codes = x / scale rounded to nearest even; a block with a value that is not
 * finite or too large becomes NaN.
 */
export function encodeQ8(values: ArrayLike<number>): Uint8Array<ArrayBuffer> {
  const { blockLength, blockBytes } = DTYPES.q8_0;
  const blocks = values.length / blockLength;
  const out = new Uint8Array(blocks * blockBytes);
  for (let block = 0; block < blocks; block++) {
    const base = block * blockLength;
    const at = block * blockBytes;
    let top = 0;
    let finite = true;
    for (let i = base; i < base + blockLength; i++) {
      top = Math.max(top, Math.abs(values[i]));
      finite &&= Number.isFinite(values[i]);
    }
    const bits = finite ? numberToHalf(Math.fround(top * Math.fround(1 / 127))) : 0x7e00;
    out[at] = bits & 255;
    out[at + 1] = bits >> 8;
    const scale = halfToNumber(bits);
    if (!finite || scale === 0) continue;
    const inverse = Math.fround(1 / scale);
    for (let i = 0; i < blockLength; i++) {
      const code = Math.fround(Math.fround(values[base + i]) * inverse);
      out[at + 2 + i] = roundHalfEven(Math.max(-127, Math.min(127, code)));
    }
  }
  return out;
}

function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}
