/**
 * Flax Linen's parameter keys: the module path and the index of the draw, hashed by SHA-1 and folded into the
 * init key.
 *
 * Source: flax/core/scope.py (_fold_in_static, LazyRng); SHA-1: FIPS 180-4, section 6.1.2.
 */
import { foldIn } from '../random/key.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** Folds a path of module names and draw indices into `key`; returns `key` for an empty path. */
export function foldInPath(key: Tensor, path: readonly (string | number)[]): Tensor {
  if (path.length === 0) return key;
  const bytes = path.flatMap((part) => (typeof part === 'number' ? bigEndian(part) : [...utf8.encode(part)]));
  return foldIn(key, sha1Word(Uint8Array.from(bytes)));
}

const utf8 = new TextEncoder();

/** The bytes of a non-negative integer without leading zeros. */
function bigEndian(value: number): number[] {
  const bytes: number[] = [];
  for (let rest = value; rest > 0; rest = Math.floor(rest / 256)) bytes.unshift(rest % 256);
  return bytes;
}

/** The first 32 bits of the SHA-1 digest. */
export function sha1Word(message: Uint8Array): number {
  const length = Math.ceil((message.length + 9) / 64) * 64;
  const block = new DataView(new ArrayBuffer(length));
  new Uint8Array(block.buffer).set(message);
  block.setUint8(message.length, 0x80);
  block.setUint32(length - 8, Math.floor(message.length / 2 ** 29));
  block.setUint32(length - 4, message.length * 8);
  const rotate = (x: number, n: number) => (x << n) | (x >>> (32 - n));
  const hash = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0];
  const w = new Int32Array(80);
  for (let start = 0; start < length; start += 64) {
    for (let t = 0; t < 16; t++) w[t] = block.getInt32(start + 4 * t);
    for (let t = 16; t < 80; t++) w[t] = rotate(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
    let [a, b, c, d, e] = hash;
    for (let t = 0; t < 80; t++) {
      const mix =
        t < 20
          ? ((b & c) | (~b & d)) + 0x5a827999
          : t < 40
            ? (b ^ c ^ d) + 0x6ed9eba1
            : t < 60
              ? ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc
              : (b ^ c ^ d) + 0xca62c1d6;
      const next = (rotate(a, 5) + mix + e + w[t]) | 0;
      [e, d, c, b, a] = [d, c, rotate(b, 30), a, next];
    }
    [a, b, c, d, e].forEach((word, i) => {
      hash[i] = (hash[i] + word) | 0;
    });
  }
  return hash[0] >>> 0;
}
