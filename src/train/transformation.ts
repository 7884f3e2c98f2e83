/**
 * Gradient transformations as in optax: steps from gradients to updates, composed by `chain`. Here state is
 * kept in an object, and the last step can update parameters in place.
 */

import { describe } from '../arguments/kinds.ts';
import { addInto } from '../backend/add-into.ts';
import { fill } from '../backend/calls/copy.ts';
import { backendOf } from '../backend/registry.ts';
import { checkExactShape, commonBackend } from '../ops/operands.ts';
import { byteLengthOf } from '../tensor/dtype.ts';
import { adopt } from '../tensor/scope.ts';
import { Tensor } from '../tensor/tensor.ts';

/** Tensors by parameter path. */
export type Tensors = Readonly<Record<string, Tensor>>;

/**
 * A step from gradients to updates, such as `adamw`; `chain` joins several. Like an Optax gradient
 * transformation.
 */
export interface Transformation {
  /** Fresh state for these parameters. */
  init(parameters: Tensors): TransformationState;
}

/** The state of a transformation for one set of parameters, such as the moments of Adam. */
export interface TransformationState {
  /**
   * New updates from `updates`, which stay the caller's. Empty: no update this time. For the last step of a
   * chain, `apply` is called instead if it exists.
   */
  update(updates: Tensors, parameters: Tensors): Tensors;
  /** The scalar factor, when `update` only multiplies by one. */
  scale?(updates: Tensors): Tensor;
  /**
   * Adds the updates to the parameters in place. `scale`, given only with `appliesScale`, multiplies the
   * updates first.
   */
  apply?(updates: Tensors, parameters: Tensors, scale?: Tensor): void;
  /** Whether `apply` takes a scale. */
  readonly appliesScale?: boolean;
  /** The state to save, as tensors by name. They change as the optimiser runs. */
  readonly tensors: Tensors;
  /** The counters to save, by name. */
  counters: Readonly<Record<string, number>>;
}

/** Applies the transformations in order. */
export function chain(...transformations: readonly Transformation[]): Transformation {
  for (const transformation of transformations) checkTransformation('chain', transformation);
  return {
    init(parameters) {
      const states = transformations.map((transformation) => transformation.init(parameters));
      return new Chain(states);
    },
  };
}

/** @throws TypeError for what is no transformation, such as a bare learning rate. */
export function checkTransformation(op: string, transformation: Transformation): void {
  if (typeof transformation?.init !== 'function') {
    throw new TypeError(
      `${op}: expected a transformation, such as adamw({ learningRate }) gives, got ${describe(transformation)}`,
    );
  }
}

class Chain implements TransformationState {
  readonly #states: readonly TransformationState[];

  constructor(states: readonly TransformationState[]) {
    this.#states = states;
  }

  get tensors(): Tensors {
    return Object.assign({}, ...this.#states.map(({ tensors }, i) => prefixed(`${i}`, tensors)));
  }

  get counters(): Readonly<Record<string, number>> {
    return Object.assign({}, ...this.#states.map(({ counters }, i) => prefixed(`${i}`, counters)));
  }

  set counters(values: Readonly<Record<string, number>>) {
    for (const [i, state] of this.#states.entries()) setPrefixed(`${i}`, state, values);
  }

  update(updates: Tensors, parameters: Tensors): Tensors {
    return this.#run(updates, this.#states.length, parameters);
  }

  apply(updates: Tensors, parameters: Tensors): void {
    const last = this.#states.at(-1);
    const scaling = last?.appliesScale ? this.#states.at(-2)?.scale : undefined;
    const before = this.#run(updates, Math.max(0, this.#states.length - (scaling ? 2 : 1)), parameters);
    const scale = scaling?.(before);
    if (last) applyUpdates(last, before, parameters, scale);
    scale?.dispose();
    if (before !== updates) disposeAll(before);
  }

  #run(updates: Tensors, count: number, parameters: Tensors): Tensors {
    let current = updates;
    for (const state of this.#states.slice(0, count)) {
      const next = state.update(current, parameters);
      if (current !== updates && next !== current) disposeAll(current);
      current = next;
    }
    return current;
  }
}

/** The state of a part as its owner names it: `prefix.name`. */
export function prefixed<T>(prefix: string, values: Readonly<Record<string, T>>): Record<string, T> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [`${prefix}.${name}`, value]));
}

/** Restores a part's counters from those named `prefix.name`. */
export function setPrefixed(
  prefix: string,
  state: TransformationState,
  values: Readonly<Record<string, number>>,
): void {
  const own = Object.keys(state.counters).map((name) => [name, values[`${prefix}.${name}`]]);
  state.counters = Object.fromEntries(own);
}

/** Transforms `updates` by `state`, times `scale`, and adds them to the parameters in place. */
export function applyUpdates(
  state: TransformationState,
  updates: Tensors,
  parameters: Tensors,
  scale?: Tensor,
): void {
  if (Object.keys(updates).length === 0) return;
  if (state.apply) {
    state.apply(updates, parameters, scale);
    return;
  }
  const found = state.update(updates, parameters);
  for (const [path, update] of Object.entries(found)) {
    const parameter = parameters[path];
    checkAlike('applyUpdates', path, parameter, update);
    addInto(parameter, parameter, update);
  }
  if (found !== updates) disposeAll(found);
}

/** @throws unless all are live, of one shape and on one backend: in-place updates work by address */
export function checkAlike(op: string, path: string, first: Tensor, ...others: readonly Tensor[]): void {
  commonBackend(op, first, ...others);
  for (const x of others) checkExactShape(op, path, x, first.shape);
}

export function disposeAll(tensors: Tensors): void {
  for (const tensor of Object.values(tensors)) tensor.dispose();
}

/** `fn` of each tensor, by the same paths. */
export function mapTensors(
  tensors: Tensors,
  fn: (tensor: Tensor, path: string) => Tensor,
): Record<string, Tensor> {
  return Object.fromEntries(Object.entries(tensors).map(([path, tensor]) => [path, fn(tensor, path)]));
}

/** Zeros of the parameters' shapes, for moments. No scope frees them, only the garbage collector. */
export function zerosLike(parameters: Tensors): Record<string, Tensor> {
  return mapTensors(parameters, (parameter) => {
    const { shape, dtype, size } = parameter;
    const backend = backendOf(parameter);
    const out = new Tensor(backend.allocate(byteLengthOf(dtype, size)), dtype, shape);
    backend.run(fill, { out, count: size, value: 0 });
    adopt(out);
    return out;
  });
}
