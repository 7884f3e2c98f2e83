/**
 * The config of a mixture of experts: sizes, routing, activation, and tensor names.
 */
import type { Activation } from './activation.ts';

/** Sizes, routing and activation of a mixture of experts. */
export interface ExpertsConfig {
  /** E */
  readonly numExperts: number;
  /** k: experts of one token. */
  readonly expertsPerToken: number;
  /** I: width of one expert. */
  readonly intermediateSize: number;
  /** Width of the experts that see every token, taken as one MLP; absent: none. */
  readonly sharedIntermediateSize?: number;
  /** Whether each layer is a mixture, in order; the others have a dense MLP. */
  readonly layers: readonly boolean[];
  /** How a token chooses its experts. */
  readonly routing: RoutingConfig;
  /** The activation between an expert's two projections. */
  readonly activation: ExpertActivation;
  /** Whether the router has a bias. */
  readonly routerBias: boolean;
  /** Whether the experts' projections have biases. */
  readonly biases: boolean;
  /**
   * Whether routed and shared experts have norms of their own (Gemma 4): the routed ones read x behind one,
   * and the outputs of each kind go through one before they are summed; default false.
   */
  readonly norms?: boolean;
}

/** How a token chooses its experts and their weights. */
export interface RoutingConfig {
  /**
   * How router logits become scores and weights: `softmax` over all experts, or `sigmoid` of each, before the
   * choice; or `softmaxOfChosen`: logits choose, and the chosen ones' softmax are the weights.
   */
  readonly scores: 'softmax' | 'sigmoid' | 'softmaxOfChosen';
  /**
   * Only experts of the best `kept` of `count` groups are chosen; a group's score is the sum of its `best`
   * largest scores. Absent: no groups.
   */
  readonly groups?: { readonly count: number; readonly kept: number; readonly best: number };
  /** Whether a stored bias per expert is added to the scores for the choice (not for the weights). */
  readonly choiceBias: boolean;
  /** Whether the chosen weights are divided by their sum. */
  readonly normalize: boolean;
  /** Factor of the final weights. */
  readonly scale: number;
  /** What the weights multiply: the experts' outputs (default), or what they read (Llama 4). */
  readonly weigh?: 'outputs' | 'inputs';
  /**
   * The router reads x through an RMS norm of its own, times `scale` (Gemma 4); absent: it reads what the
   * experts read.
   */
  readonly norm?: { readonly scale: number };
  /** Whether a stored factor per expert multiplies its final weight (Gemma 4); default false. */
  readonly expertScale?: boolean;
}

/**
 * `function(gate) * up`; or `(clamp(up) + 1) * g * sigmoid(alpha * g)` with g the gate bounded by `limit`.
 */
export type ExpertActivation =
  | { readonly type: 'gated'; readonly function: Activation }
  | { readonly type: 'clamped'; readonly alpha: number; readonly limit: number };

/** The order of the outputs of gate and up in one tensor: all of gate first, or one of each in turn. */
export type JointOutputs = 'halves' | 'alternating';

/** Tensor names of one layer's experts. */
export interface ExpertNames {
  /** `<router>.weight` `[E, D]`, and `<router>.bias` `[E]`. */
  readonly router: string;
  /** The whole name; `[E]`. */
  readonly choiceBias?: string;
  /** The whole name; `[D]`; needed only with `routing.norm`. */
  readonly routerNorm?: string;
  /** The whole name; `[E]`; needed only with `routing.expertScale`. */
  readonly expertScale?: string;
  /** Needed only with `norms`: of what routed experts read, and of what routed and shared experts give. */
  readonly norms?: { readonly before: string; readonly after: string; readonly sharedAfter: string };
  /** Whether one tensor holds all experts, `[E, …]`; `expert` then names the same ones for each. */
  readonly stacked: boolean;
  /** Whether weights are `[In, Out]`; they are read in place. Default `[Out, In]`. */
  readonly transposed?: boolean;
  /**
   * Whole names. Gate and up are two tensors, or one with the outputs of both (`joint`).
   */
  expert(index: number): {
    readonly gateUp: readonly [gate: ExpertTensorNames, up: ExpertTensorNames] | ExpertTensorNames;
    readonly down: ExpertTensorNames;
  };
  /** Of a single `gateUp`: whether its outputs are those of gate, then up (default), or alternate. */
  readonly joint?: JointOutputs;
  /** The shared experts' MLP, `<name>.weight` each. */
  readonly shared?: { readonly gateUp: readonly [gate: string, up: string]; readonly down: string };
}

export interface ExpertTensorNames {
  readonly weight: string;
  /** Needed only with `biases`. */
  readonly bias?: string;
}
