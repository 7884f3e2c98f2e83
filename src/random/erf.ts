/**
 * f32 erf with XLA's rational approximation and rounding. It sets the range of a truncated normal, so an
 * error in its last bit would change every sample.
 *
 * Source: XLA's erf of f32, read from the code it emits.
 */
const f = Math.fround;
const NUMERATOR = [0.00022905065, 0.003408291, 0.050955694, 0.18520832, 1.1283791].map(f);
const DENOMINATOR = [-1.1791603e-7, 0.000023547966, 0.0010179626, 0.01407047, 0.11098505, 0.49746925, 1].map(
  f,
);

/** @param x an f32 value. @returns an f32 value, exactly +-1 from |x| = 3.832507 on. */
export function erf(x: number): number {
  if (Math.abs(x) >= f(3.832507)) return Math.sign(x);
  const z = f(x * x);
  // Horner with one rounding per step: the product of f32 values is exact in f64.
  const horner = (c: readonly number[]) => c.reduce((sum, next) => f(sum * z + next));
  return f(f(x * horner(NUMERATOR)) / horner(DENOMINATOR));
}
