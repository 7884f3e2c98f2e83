/**
 * sfc32, a small fast counting generator (Chris Doty-Humphrey, PractRand), seeded through splitmix32. For
 * drawing tokens only; `gqa/random` has JAX's numbers (threefry).
 */
import { describe } from '../../arguments/kinds.ts';
import type { RandomSource } from './sampling.ts';

/** @throws TypeError for a seed that is no number, RangeError for one that is no safe integer. */
export function checkSeed(op: string, seed: number): void {
  if (Number.isSafeInteger(seed)) return;
  const message = `${op}: expected seed to be a safe integer, got ${describe(seed)}`;
  throw typeof seed === 'number' ? new RangeError(message) : new TypeError(message);
}

/**
 * Uniform numbers in [0, 1) with 32 random bits each, the same on every platform for the same seed.
 * @param seed a safe integer; only its value counts
 */
export function randomSource(seed: number): RandomSource {
  let mix = seed | 0;
  const splitmix = (): number => {
    mix = (mix + 0x9e3779b9) | 0;
    let z = mix ^ (mix >>> 16);
    z = Math.imul(z, 0x21f0aaad);
    z ^= z >>> 15;
    z = Math.imul(z, 0x735a2d97);
    return z ^ (z >>> 15);
  };
  let a = splitmix();
  // Mix in the upper half of the seed, so that all 53 bits count.
  mix ^= Math.floor(seed / 2 ** 32);
  let b = splitmix();
  let c = splitmix();
  let counter = 1;
  const next = (): number => {
    const out = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + out) | 0;
    return (out >>> 0) / 2 ** 32;
  };
  for (let i = 0; i < 12; i++) next();
  return next;
}

/** A seed for when the caller gives none. */
export function freshSeed(): number {
  return Math.floor(Math.random() * 2 ** 32);
}
