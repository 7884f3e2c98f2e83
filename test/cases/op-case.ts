/**
 * An op case. One row is the data (shapes and attributes) of a correctness test (test/ops/run-cases.ts) and
 * of a gradient test (test/ops/run-gradients.ts); `run` builds the call from it.
 */
import type { DType, Shape, Tensor } from '../../src/index.ts';

/**
 * Draws one value; `uniform` gives [0, 1), `index` is the flat index. Rounded to the input's dtype
 * afterwards.
 */
export type Draw = (uniform: () => number, index: number, shape: Shape) => number;

export interface OpCase<Attrs = unknown> {
  readonly name: string;
  /** Inputs by name, in order. Dimensions are distinct primes where the op allows it. */
  readonly shapes: Readonly<Record<string, Shape>>;
  /** Default f32. Block types are quantised from the drawn values. */
  readonly dtypes?: Readonly<Record<string, DType>>;
  /** Default: standard normal. */
  readonly draw?: Readonly<Record<string, Draw>>;
  readonly attrs: Attrs;
  /** t means max |error| <= t * max(1, max |reference|). */
  readonly tolerance: number;
  /** Floating-point operations, for the bench. */
  readonly flops?: number;
}

export interface OpCases<Attrs = unknown> {
  readonly op: string;
  readonly rows: readonly OpCase<Attrs>[];
  readonly run: (inputs: Readonly<Record<string, Tensor>>, attrs: Attrs) => Tensor | readonly Tensor[];
}

/**
 * A group of rows, its attribute type inferred and then forgotten (the runner only hands attributes back to
 * `run`).
 */
export function opCases<Attrs>(cases: OpCases<Attrs>): OpCases {
  return cases as unknown as OpCases;
}

/** Standard normal by Box and Muller. */
export const normal: Draw = (uniform) =>
  Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());

/** Uniform in [low, high). */
export function between(low: number, high: number): Draw {
  return (uniform) => low + (high - low) * uniform();
}

/** Integers low … high - 1. */
export function integers(low: number, high: number): Draw {
  return (uniform) => Math.floor(low + (high - low) * uniform());
}

/** Lengths around the vector widths 4, 8, 16, 32 and 64. */
export const LENGTHS: readonly number[] = [
  ...Array.from({ length: 17 }, (_, i) => i + 1),
  ...[31, 32, 33, 63, 64, 65],
];
