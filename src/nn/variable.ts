/** What a module keeps between calls: parameters, cached keys and values. */

import { describe } from '../arguments/kinds.ts';
import { isRecorded } from '../autograd/tape.ts';
import { convert } from '../backend/calls/copy.ts';
import { backendOf } from '../backend/registry.ts';
import { checkTensor, commonBackend } from '../ops/operands.ts';
import { adopt } from '../tensor/scope.ts';
import { sameShape, shapeText } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';

/**
 * A tensor that a module owns. It is the one mutable object: assigning to `value` copies numbers into the same memory.
 */
export class Variable {
  readonly #tensor: Tensor;

  /** Takes `tensor` over: no scope frees it. It must not be used under its other names after an assignment to `value`. */
  constructor(tensor: Tensor) {
    if (!(tensor instanceof Tensor)) {
      throw new TypeError(`Variable: expected a tensor, got ${describe(tensor)}`);
    }
    adopt(tensor);
    this.#tensor = tensor;
  }

  /** The current tensor; always the same one, whose numbers assignments change. */
  get value(): Tensor {
    return this.#tensor;
  }

  /**
   * Copies the numbers in, rounded to this variable's dtype.
   * @throws RangeError for another shape; TypeError for what is no tensor; Error for a tensor of another backend or one that was
   *   disposed; Error inside of a function whose gradient by this variable or by `next` is taken.
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

  /** Frees the memory. Safe to call twice. */
  dispose(): void {
    this.#tensor.dispose();
  }
}

/** A parameter: what optimisers update and checkpoints hold. */
export class Param extends Variable {}

/** State of decoding: keys and values of seen tokens, and how many. */
export class Cache extends Variable {}
