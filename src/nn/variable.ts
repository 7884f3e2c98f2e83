/** The state of a module: parameters, cached keys and values. */

import { printAsText } from '../arguments/inspect.ts';
import { describe } from '../arguments/kinds.ts';
import { isRecorded } from '../autograd/tape.ts';
import { convert } from '../backend/calls/copy.ts';
import { backendOf } from '../backend/registry.ts';
import { checkTensor, commonBackend } from '../ops/operands.ts';
import { adopt } from '../tensor/scope.ts';
import { sameShape, shapeText } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';

/** A tensor owned by a module, and the only mutable one: assigning to `value` copies into the same memory. */
export class Variable {
  readonly #tensor: Tensor;

  /**
   * Takes ownership of `tensor`: no scope frees it. Do not use it through other references after an
   * assignment to `value`.
   */
  constructor(tensor: Tensor) {
    if (!(tensor instanceof Tensor)) {
      throw new TypeError(`Variable: expected a tensor, got ${describe(tensor)}`);
    }
    adopt(tensor);
    this.#tensor = tensor;
  }

  /** The tensor: always the same object, whose elements assignments change. */
  get value(): Tensor {
    return this.#tensor;
  }

  /**
   * Copies the elements of `next`, rounded to this variable's dtype.
   * @throws RangeError for another shape; TypeError unless `next` is a tensor; Error when it is on another
   *   backend or disposed, and while a gradient with respect to this variable or `next` is taken.
   */
  set value(next: Tensor) {
    const own = this.#tensor;
    checkTensor('Variable', 'the value', next);
    if (!sameShape(own.shape, next.shape)) {
      throw new RangeError(
        `Variable: expected a value ${shapeText(own.shape)}, got ${shapeText(next.shape)}`,
      );
    }
    if (backendOf(own) !== backendOf(next)) {
      throw new Error(
        `Variable: expected a value on ${backendOf(own).name}, got one on ${backendOf(next).name}`,
      );
    }
    const backend = commonBackend('Variable', own, next);
    if (isRecorded(own, next)) {
      throw new Error('Variable: a value assigned inside of a differentiated function has no gradient');
    }
    if (next !== own) backend.run(convert, { out: own, x: next, count: own.size });
  }

  /** As its tensor's, such as `Param f32 [2] [0.5, 1]`. */
  toString(): string {
    return this.#tensor.toString().replace('Tensor', this.constructor.name);
  }

  static {
    printAsText(Variable);
  }

  /** Frees the memory. Safe to call twice. */
  dispose(): void {
    this.#tensor.dispose();
  }
}

/** A parameter: updated by optimizers, stored in checkpoints. */
export class Param extends Variable {}

/** Decoding state: cached keys and values, and the number of tokens. */
export class Cache extends Variable {}
