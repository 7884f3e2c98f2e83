/**
 * threefry2x32 and the uniform floats JAX makes from it, for keys, dropout and the reference backend.
 *
 * Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"; jax/_src/prng.py (threefry2x32,
 * threefry_partitionable), jax/_src/random.py (_uniform).
 */
const ROTATIONS = [
  [13, 15, 26, 6],
  [17, 29, 16, 24],
] as const;

/** Twenty rounds of threefry2x32 on the counter `(x0, x1)`: two u32 words. */
export function threefry2x32(key: readonly [number, number], x0: number, x1: number): [number, number] {
  const schedule = [key[0] | 0, key[1] | 0, key[0] ^ key[1] ^ 0x1bd11bda];
  let a = (x0 + schedule[0]) | 0;
  let b = (x1 + schedule[1]) | 0;
  for (let group = 0; group < 5; group++) {
    for (const rotation of ROTATIONS[group % 2]) {
      a = (a + b) | 0;
      b = (b << rotation) | (b >>> (32 - rotation));
      b ^= a;
    }
    a = (a + schedule[(group + 1) % 3]) | 0;
    b = (b + schedule[(group + 2) % 3] + group + 1) | 0;
  }
  return [a >>> 0, b >>> 0];
}

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

/** The upper 23 of 32 random bits as an f32 in [0, 1). */
export function toUnitFloat(bits: number): number {
  word[0] = (bits >>> 9) | 0x3f800000;
  return float[0] - 1;
}

/**
 * Element `index` of `jax.random.uniform(key, shape)` in f32, `index` linear over the shape (partitionable
 * layout).
 */
export function uniformAt(key: readonly [number, number], index: number): number {
  const [a, b] = threefry2x32(key, Math.floor(index / 2 ** 32), index >>> 0);
  return toUnitFloat(a ^ b);
}
