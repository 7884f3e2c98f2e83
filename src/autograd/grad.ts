/** `grad` and `valueAndGrad`, as in JAX, over tensors, structures of tensors, and modules. */

import { checkFunction, describe } from '../arguments/kinds.ts';
import { groupScope, scope } from '../tensor/scope.ts';
import { shapeText } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';
import { isFloat, Tape } from './tape.ts';

/** A module or a model: its parameters by path. Reading `value` twice must give the same tensor. */
export interface ParameterOwner {
  /** The parameters by path, in a fixed order. */
  parameters(): Iterable<readonly [path: string, parameter: { readonly value: Tensor }]>;
}

/**
 * The type of an argument's gradient: a tensor for a tensor, an object keyed by parameter path for a module,
 * the same structure for an array or object.
 */
export type GradientOf<A> = A extends Tensor
  ? Tensor
  : A extends ParameterOwner
    ? Record<string, Tensor>
    : A extends readonly unknown[] | object
      ? { [Key in keyof A]: GradientOf<A[Key]> }
      : undefined;

/** The gradients of the arguments that `argnums` names, in its order. */
export type GradientsOf<Args extends readonly unknown[], Numbers extends readonly number[]> = {
  [I in keyof Numbers]: GradientOf<Args[Numbers[I]]>;
};

/**
 * Returns a function that computes the value and the gradient of `fn`.
 *
 * Ops are recorded only while it runs, and intermediates are freed. The caller owns the value and the
 * gradients. Gradients have the shape of their argument; they are f32 (f64 for f64), also for f16 and bf16
 * arguments. The gradient is zero for an argument that the value does not depend on.
 * @param fn returns a float tensor of one element; synchronous
 * @param argnums which arguments to differentiate by; a list gives a list of gradients. Default 0, the first.
 *   An argument is a tensor, an array or object of them, or a module (anything with `parameters()`).
 * @throws (when called) TypeError when the value is not a tensor or an argument has no float tensors;
 *   RangeError when the value has more than one element or there is no such argument.
 * @example const [loss, grads] = valueAndGrad((m: TrainableModel) => causalLmLoss(m, tokens))(model);
 */
export function valueAndGrad<Args extends readonly unknown[]>(
  fn: (...args: Args) => Tensor,
  argnums?: 0,
): (...args: Args) => [value: Tensor, gradient: GradientOf<Args[0]>];
export function valueAndGrad<Args extends readonly unknown[], N extends number>(
  fn: (...args: Args) => Tensor,
  argnums: N,
): (...args: Args) => [value: Tensor, gradient: GradientOf<Args[N]>];
export function valueAndGrad<Args extends readonly unknown[], const Ns extends readonly number[]>(
  fn: (...args: Args) => Tensor,
  argnums: Ns,
): (...args: Args) => [value: Tensor, gradients: GradientsOf<Args, Ns>];
export function valueAndGrad<Args extends readonly unknown[]>(
  fn: (...args: Args) => Tensor,
  argnums: number | readonly number[] = 0,
): (...args: Args) => [Tensor, unknown] {
  checkFunction('valueAndGrad', fn);
  return (...args) => run('valueAndGrad', fn, args, argnums);
}

/**
 * Returns a function that computes the gradient of `fn`; arguments as for `valueAndGrad`.
 * @example const dx = grad((a: Tensor) => sum(mul(a, a)))(x); // 2 x
 */
export function grad<Args extends readonly unknown[]>(
  fn: (...args: Args) => Tensor,
  argnums?: 0,
): (...args: Args) => GradientOf<Args[0]>;
export function grad<Args extends readonly unknown[], N extends number>(
  fn: (...args: Args) => Tensor,
  argnums: N,
): (...args: Args) => GradientOf<Args[N]>;
export function grad<Args extends readonly unknown[], const Ns extends readonly number[]>(
  fn: (...args: Args) => Tensor,
  argnums: Ns,
): (...args: Args) => GradientsOf<Args, Ns>;
export function grad<Args extends readonly unknown[]>(
  fn: (...args: Args) => Tensor,
  argnums: number | readonly number[] = 0,
): (...args: Args) => unknown {
  checkFunction('grad', fn);
  return (...args) => groupScope(() => run('grad', fn, args, argnums)[1]);
}

function run<Args extends readonly unknown[]>(
  op: string,
  fn: (...args: Args) => Tensor,
  args: Args,
  argnums: number | readonly number[],
): [value: Tensor, gradients: unknown] {
  const wanted = typeof argnums === 'number' ? [argnums] : argnums;
  if (!Array.isArray(wanted)) {
    throw new TypeError(`${op}: expected argnums as a number or a list of them, got ${describe(argnums)}`);
  }
  const leaves: Tensor[] = [];
  const forms = wanted.map((index) => {
    if (!Number.isInteger(index) || index < 0 || index >= args.length) {
      throw new RangeError(`${op}: expected argnums below the ${args.length} arguments, got ${index}`);
    }
    const before = leaves.length;
    const form = formOf(op, args[index], leaves);
    if (leaves.length === before) {
      const got = `got none${trainableHint(args[index])}`;
      throw new TypeError(`${op}: expected tensors or a module in argument ${index}, ${got}`);
    }
    return form;
  });
  const tape = new Tape(leaves);
  try {
    const value = tape.run(() => scope(() => fn(...args)));
    if (!(value instanceof Tensor))
      throw new TypeError(`${op}: expected the function to return a tensor, got ${describe(value)}`);
    if (value.size !== 1) {
      throw new RangeError(`${op}: expected a value of one element, got ${shapeText(value.shape)}`);
    }
    const gradients = tape.backward(value, leaves);
    const results = forms.map((form) => form(gradients));
    return [value, typeof argnums === 'number' ? results[0] : results];
  } finally {
    tape.end();
  }
}

/** Rebuilds the structure of an argument from the gradients of its leaves. */
type Form = (gradients: readonly Tensor[]) => unknown;

/** Appends the argument's tensors to `leaves` and returns how to rebuild its structure. */
function formOf(op: string, argument: unknown, leaves: Tensor[]): Form {
  if (argument instanceof Tensor) return leafForm(op, argument, leaves);
  if (isOwner(argument)) {
    const parameters = [...argument.parameters()];
    return recordForm(parameters.map(([path, { value }]) => [path, leafForm(op, value, leaves)]));
  }
  if (Array.isArray(argument)) {
    const forms = argument.map((item) => formOf(op, item, leaves));
    return (gradients) => forms.map((form) => form(gradients));
  }
  if (typeof argument === 'object' && argument !== null && !ArrayBuffer.isView(argument)) {
    return recordForm(Object.entries(argument).map(([key, item]) => [key, formOf(op, item, leaves)]));
  }
  return () => undefined;
}

function recordForm(forms: readonly (readonly [string, Form])[]): Form {
  return (gradients) => Object.fromEntries(forms.map(([key, form]) => [key, form(gradients)]));
}

function leafForm(op: string, x: Tensor, leaves: Tensor[]): Form {
  if (!(x instanceof Tensor && isFloat(x))) {
    const got = x instanceof Tensor ? x.dtype : describe(x);
    throw new TypeError(`${op}: expected float tensors to differentiate by, got ${got}`);
  }
  const index = leaves.push(x) - 1;
  return (gradients) => gradients[index];
}

/** Hint for errors about a model from `loadModel`, whose weights are not trainable. */
export function trainableHint(value: unknown): string {
  const isModel = typeof (value as { forward?: unknown } | null | undefined)?.forward === 'function';
  return isModel && !isOwner(value) ? '; loadTrainableModel (gqa/train) gives a model with parameters' : '';
}

function isOwner(value: unknown): value is ParameterOwner {
  return typeof (value as { parameters?: unknown } | null | undefined)?.parameters === 'function';
}
