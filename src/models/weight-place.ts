/** A projection's weights, and the places of weights in a checkpoint. */
import type { Shape } from '../tensor/shape.ts';

export interface ProjectionOf<T> {
  /** `[Out, In]` */
  readonly weight: T;
  /** `[Out]` */
  readonly bias?: T;
}

/** The tensor of the checkpoint, or part of one, that holds a weight. */
export interface WeightPlace {
  readonly name: string;
  /** The shape of the weight. */
  readonly shape: Shape;
  /**
   * What the tensor must be in the file: more rows where projections are fused, `[In, Out]` where transposed.
   */
  readonly stored: Shape;
  /** The first output taken: a row of the tensor, or a column where it is transposed. */
  readonly first: number;
  readonly transposed: boolean;
  /** Where the outputs are not next to each other: `size` of them every `stride`. */
  readonly blocks?: { readonly size: number; readonly stride: number };
  /** The index along the first axis of `stored` that is this weight's; absent: there is no such axis. */
  readonly item?: number;
  /** Whether the weight is converted to f32 whatever its stored dtype. */
  readonly wide?: boolean;
  /** Whether it is no parameter: it follows no gradient, and an optimiser leaves it alone. */
  readonly buffer?: boolean;
}

/** Finds or makes the leaf for a weight. */
export type WeightSource<T> = (place: WeightPlace) => T;

/** A tensor of its own. */
export function whole(name: string, shape: Shape): WeightPlace {
  return { name, shape, stored: shape, first: 0, transposed: false };
}
