/**
 * Decodes ggml's block types to f32: the simple reference of kernels/quant.h and quant_k.h. Products of
 * scales and codes are exact in f32, so values are rounded once, when stored.
 *
 * Source: ggml-common.h (block_q8_0 to block_q6_K); gguf-py quants.py (order of the values).
 */
import { type BlockDType, DTYPES } from './dtype.ts';
import { halfToNumber } from './half.ts';

/** @returns `size` values from whole blocks */
export function decodeBlocks(dtype: BlockDType, bytes: Uint8Array, size: number): Float32Array {
  const { blockLength, blockBytes } = DTYPES[dtype];
  const out = new Float32Array(size);
  for (let block = 0; block * blockLength < size; block++) {
    const at = block * blockBytes;
    DECODERS[dtype](bytes.subarray(at, at + blockBytes), out.subarray(block * blockLength), dtype);
  }
  return out;
}

type Decoder = (block: Uint8Array, out: Float32Array, dtype: BlockDType) => void;

const DECODERS: Readonly<Record<BlockDType, Decoder>> = {
  q8_0: decodeQ8,
  q4_0: decodeNibbles,
  q4_1: decodeNibbles,
  q5_0: decodeNibbles,
  q5_1: decodeNibbles,
  q4_k: decodeScaledMinimum,
  q5_k: decodeScaledMinimum,
  q6_k: decodeQ6K,
  q2_k: decodeQ2K,
  q3_k: decodeQ3K,
  iq4_xs: decodeIQ4XS,
  iq4_nl: (block, out) => decodeTable(half(block, 0), IQ4_VALUES, block.subarray(2), out),
  // 2^(e - 127) times 4-bit floats, of which the table has the double.
  mxfp4: (block, out) => decodeTable(2 ** (block[0] - 128), FP4_VALUES, block.subarray(1), out),
};

const IQ4_VALUES = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
const FP4_VALUES = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

function half(block: Uint8Array, at: number): number {
  return halfToNumber(block[at] | (block[at + 1] << 8));
}

/** d, then 32 int8: `d * q`. */
function decodeQ8(block: Uint8Array, out: Float32Array): void {
  const scale = half(block, 0);
  for (let i = 0; i < 32; i++) out[i] = scale * signed(block[2 + i]);
}

/**
 * d, a minimum in the `_1` types, 32 high bits in the 5-bit ones, then 16 bytes: byte i holds the low bits of
 * value i in its low nibble and of value i + 16 in its high nibble. `d * q + m`, or `d * (q - 8)` and `d * (q
 * - 16)`.
 */
function decodeNibbles(block: Uint8Array, out: Float32Array, dtype: BlockDType): void {
  const five = dtype === 'q5_0' || dtype === 'q5_1';
  const hasMinimum = dtype === 'q4_1' || dtype === 'q5_1';
  const scale = half(block, 0);
  const min = hasMinimum ? half(block, 2) : -(five ? 16 : 8) * scale;
  const high = hasMinimum ? 4 : 2;
  const data = five ? high + 4 : high;
  for (let i = 0; i < 32; i++) {
    const low = i < 16 ? block[data + i] & 15 : block[data + i - 16] >> 4;
    const fifth = five ? ((block[high + (i >> 3)] >> (i & 7)) & 1) << 4 : 0;
    out[i] = scale * (low | fifth) + min;
  }
}

/**
 * q4_k, q5_k: d, dmin, twelve bytes of 6-bit scales and minimums for eight groups of 32, 32 bytes of fifth
 * bits in q5_k, then 128 bytes: each 32 hold an even group in the low nibbles and the next odd group in the
 * high nibbles.
 */
function decodeScaledMinimum(block: Uint8Array, out: Float32Array, dtype: BlockDType): void {
  const d = half(block, 0);
  const dmin = half(block, 2);
  const data = dtype === 'q5_k' ? 48 : 16;
  for (let g = 0; g < 8; g++) {
    // The upper two bits of groups 4 to 7 are stored in the upper bits of groups 0 to 3.
    const q = (i: number) => block[4 + i];
    const scale = g < 4 ? q(g) & 63 : (q(g + 4) & 15) | ((q(g - 4) >> 6) << 4);
    const min = g < 4 ? q(g + 4) & 63 : (q(g + 4) >> 4) | ((q(g) >> 6) << 4);
    for (let i = 0; i < 32; i++) {
      const byte = block[data + 32 * (g >> 1) + i];
      const low = g % 2 === 0 ? byte & 15 : byte >> 4;
      const fifth = dtype === 'q5_k' ? ((block[16 + i] >> g) & 1) << 4 : 0;
      out[32 * g + i] = d * scale * (low | fifth) - dmin * min;
    }
  }
}

/**
 * q6_k: 128 bytes of low nibbles, 64 of upper two bits, 16 int8 scales of 16 values each, d: `d * scale * (q
 * - 32)`.
 */
function decodeQ6K(block: Uint8Array, out: Float32Array): void {
  const d = half(block, 208);
  for (let i = 0; i < 256; i++) {
    const upper = i >> 7;
    const t = (i >> 5) & 3;
    const lane = i & 31;
    const byte = block[64 * upper + 32 * (t & 1) + lane];
    const low = t < 2 ? byte & 15 : byte >> 4;
    const high = (block[128 + 32 * upper + lane] >> (2 * t)) & 3;
    out[i] = d * signed(block[192 + (i >> 4)]) * ((low | (high << 4)) - 32);
  }
}

/**
 * q2_k: 16 bytes of a scale and a minimum of 16 values each (low and high nibble), 64 bytes of 2-bit codes, d,
 * dmin: `d * scale * q - dmin * min`.
 */
function decodeQ2K(block: Uint8Array, out: Float32Array): void {
  const [d, dmin] = [half(block, 80), half(block, 82)];
  for (let i = 0; i < 256; i++) {
    const q = (block[16 + 32 * (i >> 7) + (i & 31)] >> (2 * ((i >> 5) & 3))) & 3;
    const both = block[i >> 4];
    out[i] = d * (both & 15) * q - dmin * (both >> 4);
  }
}

/** q3_k: 32 bytes of third bits, 64 of lower ones, twelve bytes of sixteen 6-bit scales, d. */
function decodeQ3K(block: Uint8Array, out: Float32Array): void {
  const d = half(block, 108);
  for (let i = 0; i < 256; i++) {
    const low = (block[32 + 32 * (i >> 7) + (i & 31)] >> (2 * ((i >> 5) & 3))) & 3;
    const third = (block[i & 31] >> (i >> 5)) & 1;
    const s = i >> 4;
    const nibble = s < 8 ? block[96 + s] & 15 : block[88 + s] >> 4;
    const scale = nibble | (((block[104 + (s & 3)] >> (2 * (s >> 2))) & 3) << 4);
    out[i] = d * (scale - 32) * ((low | (third << 2)) - 4);
  }
}

/** iq4_xs: d, two bytes and four nibble pairs of eight 6-bit scales, then 16 bytes for each group of 32. */
function decodeIQ4XS(block: Uint8Array, out: Float32Array): void {
  const d = half(block, 0);
  for (let g = 0; g < 8; g++) {
    const low = (block[4 + (g >> 1)] >> (4 * (g & 1))) & 15;
    const high = (block[2 + (g >> 2)] >> (2 * (g & 3))) & 3;
    const codes = block.subarray(8 + 16 * g);
    decodeTable(d * ((low | (high << 4)) - 32), IQ4_VALUES, codes, out.subarray(32 * g));
  }
}

/** 32 nibbles, as in `decodeNibbles`, that are places in a table. */
function decodeTable(scale: number, table: readonly number[], codes: Uint8Array, out: Float32Array): void {
  for (let i = 0; i < 16; i++) {
    out[i] = scale * table[codes[i] & 15];
    out[i + 16] = scale * table[codes[i] >> 4];
  }
}

function signed(byte: number): number {
  return (byte << 24) >> 24;
}
