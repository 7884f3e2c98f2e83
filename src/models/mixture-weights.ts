/** The weights of a mixture of experts, of one MLP, and their places in the checkpoint. */
import type { Shape } from '../tensor/shape.ts';
import type { ExpertNames, ExpertsConfig, ExpertTensorNames, JointOutputs } from './experts-config.ts';
import { type ProjectionOf, type WeightPlace, type WeightSource, whole } from './weight-place.ts';

export interface MlpOf<T> {
  /** Twice `[I, D]`, projected in one pass; once when the MLP is not gated. */
  readonly gateUp: readonly ProjectionOf<T>[];
  /** `[D, I]` */
  readonly down: ProjectionOf<T>;
}

/** A mixture of experts; the weights of expert e stand at index e. */
export interface MixtureOf<T> {
  /** `[E, D]` */
  readonly router: ProjectionOf<T>;
  /** `[E]`; counts for the choice only. */
  readonly choiceBias?: T;
  /** `[D]` */
  readonly routerNorm?: T;
  /** `[E]`; multiplies the weights of chosen experts. */
  readonly expertScale?: T;
  /** `[D]` each: of what routed experts read, and of what routed and shared experts give. */
  readonly norms?: { readonly before: T; readonly after: T; readonly sharedAfter: T };
  /** Gate and up, `[I, D]` each; or one list of `[2 I, D]` with both (`joint`). */
  readonly gateUp: readonly (readonly ProjectionOf<T>[])[];
  /** `[D, I]` */
  readonly down: readonly ProjectionOf<T>[];
  /** Of one list: the order of its outputs. */
  readonly joint?: JointOutputs;
  /** Whether the experts' matrices are transposed, `[In, Out]`. */
  readonly transposed: boolean;
  /** Experts that see every token, as one MLP. */
  readonly shared?: MlpOf<T>;
}

/** Makes the weights of some projections of one input. */
export type Projections<T> = (
  name: string | readonly string[],
  outs: readonly number[],
  ins: number,
  biased: boolean,
  groups?: number,
) => ProjectionOf<T>[];

export function mixtureWeights<T>(
  config: ExpertsConfig,
  D: number,
  names: ExpertNames,
  projections: Projections<T>,
  source: WeightSource<T>,
): MixtureOf<T> {
  const { numExperts: E, intermediateSize: I, sharedIntermediateSize: shared, routing } = config;
  const { stacked, transposed = false, joint = 'halves' } = names;
  // Halves are two ranges of rows, unless outputs are columns.
  const oneList = !Array.isArray(names.expert(0).gateUp) && (transposed || joint === 'alternating');

  /** Rows `first … first + out` of the `outs` that expert `item` has in its tensor. */
  const projection = (
    own: ExpertTensorNames,
    item: number,
    [ins, out, outs = out, first = 0]: readonly number[],
  ): ProjectionOf<T> => {
    const place = (name: string, shape: Shape, whole: Shape): WeightPlace => ({
      name,
      shape,
      stored: stacked ? [E, ...whole] : whole,
      first,
      transposed: false,
      ...(stacked && { item }),
    });
    const weight = source(
      transposed ? place(own.weight, [ins, out], [ins, outs]) : place(own.weight, [out, ins], [outs, ins]),
    );
    return config.biases ? { weight, bias: source(place(own.bias as string, [out], [outs])) } : { weight };
  };
  const each = (make: (expert: ReturnType<ExpertNames['expert']>, item: number) => ProjectionOf<T>) =>
    Array.from({ length: E }, (_, item) => make(names.expert(item), item));
  const half = (index: number) =>
    each(({ gateUp }, item) =>
      'weight' in gateUp
        ? projection(gateUp, item, [D, I, 2 * I, index * I])
        : projection(gateUp[index], item, [D, I]),
    );
  return {
    router: projections(names.router, [E], D, config.routerBias)[0],
    // In training it is set by the load of the experts, not by a gradient; weight decay would undo that.
    ...(routing.choiceBias && {
      choiceBias: source({ ...whole(names.choiceBias as string, [E]), buffer: true }),
    }),
    ...(routing.norm && { routerNorm: source(whole(`${names.routerNorm}`, [D])) }),
    ...(routing.expertScale && { expertScale: source(whole(`${names.expertScale}`, [E])) }),
    ...(config.norms &&
      names.norms && {
        norms: {
          before: source(whole(`${names.norms.before}.weight`, [D])),
          after: source(whole(`${names.norms.after}.weight`, [D])),
          sharedAfter: source(whole(`${names.norms.sharedAfter}.weight`, [D])),
        },
      }),
    ...(oneList && { joint }),
    gateUp: oneList
      ? [each(({ gateUp }, item) => projection(gateUp as ExpertTensorNames, item, [D, 2 * I]))]
      : [half(0), half(1)],
    down: each(({ down }, item) => projection(down, item, [I, D])),
    transposed,
    ...(shared !== undefined &&
      names.shared && {
        shared: {
          gateUp: projections(names.shared.gateUp, [shared, shared], D, false),
          down: projections(names.shared.down, [D], shared, false)[0],
        },
      }),
  };
}
