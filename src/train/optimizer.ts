/** `Optimizer`: a transformation and its state, applied to parameters in place. */

import { describe } from '../arguments/kinds.ts';
import { type ParameterOwner, trainableHint } from '../autograd/grad.ts';
import { sameShape, shapeText } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';
import {
  applyUpdates,
  disposeAll,
  type Tensors,
  type Transformation,
  type TransformationState,
} from './transformation.ts';

/**
 * Updates the parameters of a model in place by a transformation such as `adamw`, and owns its state.
 * Source: flax/nnx/training/optimizer.py (Optimizer).
 */
export class Optimizer {
  readonly #state: TransformationState;
  readonly #paths: ReadonlySet<string>;

  /**
   * @param model its parameters, by path; they are changed in place
   * @example const optimizer = new Optimizer(model, chain(clipByGlobalNorm(1), adamw({ learningRate: 1e-3 })));
   */
  constructor(model: ParameterOwner, transformation: Transformation) {
    if (typeof model?.parameters !== 'function') {
      throw new TypeError(
        `Optimizer: expected a module or a model, got ${describe(model)}${trainableHint(model)}`,
      );
    }
    if (typeof transformation?.init !== 'function') {
      throw new TypeError(
        `Optimizer: expected a transformation, such as adamw({ learningRate: 1e-3 }), got ${describe(transformation)}`,
      );
    }
    const parameters = parametersOf(model);
    this.#paths = new Set(Object.keys(parameters));
    this.#state = transformation.init(parameters);
  }

  /**
   * One step. It takes ownership of the gradients and frees them, so memory does not grow in a plain loop.
   * @param gradients what `grad` or `valueAndGrad` gave for `model`, by path
   * @throws RangeError when a path is missing or unknown, or a gradient's shape is not its parameter's;
   *   TypeError for anything but a model and an object of tensors. Nothing is changed when it throws.
   */
  update(model: ParameterOwner, gradients: Tensors): void {
    if (typeof model?.parameters !== 'function' || typeof gradients !== 'object' || gradients === null) {
      throw new TypeError(
        `Optimizer: expected update(model, gradients), got ${describe(model)} and ${describe(gradients)}${trainableHint(model)}`,
      );
    }
    const paths = Object.keys(gradients);
    const unknown = paths.find((path) => !this.#paths.has(path));
    if (unknown !== undefined || paths.length !== this.#paths.size) {
      const got = unknown === undefined ? `${paths.length}` : `one for ${unknown}`;
      throw new RangeError(
        `Optimizer: expected a gradient for each of ${this.#paths.size} parameters, got ${got}`,
      );
    }
    const parameters = parametersOf(model);
    this.#checkPaths(Object.keys(parameters));
    for (const [path, { shape }] of Object.entries(parameters)) {
      const gradient = gradients[path];
      if (!(gradient instanceof Tensor) || !sameShape(gradient.shape, shape)) {
        const got = gradient instanceof Tensor ? shapeText(gradient.shape) : describe(gradient);
        throw new RangeError(
          `Optimizer: expected a gradient of shape ${shapeText(shape)} for ${path}, got ${got}`,
        );
      }
    }
    applyUpdates(this.#state, gradients, parameters);
    disposeAll(gradients);
  }

  #checkPaths(paths: readonly string[]): void {
    const unknown = paths.find((path) => !this.#paths.has(path));
    if (unknown !== undefined)
      throw new RangeError(`Optimizer: ${unknown} was not a parameter when this Optimizer was created`);
    if (paths.length === this.#paths.size) return;
    throw new RangeError(
      `Optimizer: expected a model of ${this.#paths.size} parameters, got ${paths.length}`,
    );
  }

  /** The optimiser's tensors (moments, sums) by name, as to be saved. They change with each step. */
  get tensors(): Tensors {
    return this.#state.tensors;
  }

  /** Step counts by name, as to be saved; assign those of a saved run to resume it. */
  get counters(): Readonly<Record<string, number>> {
    return this.#state.counters;
  }

  /** Step counts by name, as to be saved; assign those of a saved run to resume it. */
  set counters(values: Readonly<Record<string, number>>) {
    this.#state.counters = { ...values };
  }
}

function parametersOf(model: ParameterOwner): Tensors {
  return Object.fromEntries([...model.parameters()].map(([path, { value }]) => [path, value]));
}
