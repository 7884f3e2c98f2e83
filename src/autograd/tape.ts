/**
 * The tape of reverse-mode differentiation. While `grad` runs its function, ops on tensors that depend on an
 * argument append an entry: inputs, outputs, the tensors that backward reads, and the op's vjp. The backward
 * pass walks the entries in reverse.
 *
 * An entry keeps the memory that its vjp reads, so the function may free its intermediates (scopes do). The
 * memory is released once the backward pass has used the entry.
 *
 * Source: Baydin et al. 2018, "Automatic differentiation in machine learning: a survey", section 3.2.
 */

import { addInto } from '../backend/add-into.ts';
import { fill } from '../backend/calls/copy.ts';
import { backendOf } from '../backend/registry.ts';
import { byteLengthOf, type DType } from '../tensor/dtype.ts';
import { groupScope, scope } from '../tensor/scope.ts';
import type { Shape } from '../tensor/shape.ts';
import { isShared, release, retain } from '../tensor/storage.ts';
import { Tensor } from '../tensor/tensor.ts';

/** One per input or output; undefined = no gradient. */
export type Gradients = readonly (Tensor | undefined)[];

/** What an op records. An absent operand is `undefined`, so positions stay fixed. */
export interface TapeEntry {
  readonly inputs: readonly (Tensor | undefined)[];
  readonly outputs: readonly Tensor[];
  /** Tensors that `vjp` reads, inputs and outputs included; passed to it in this order. */
  readonly saved: readonly (Tensor | undefined)[];
  /**
   * Computes the inputs' gradients from the outputs' (undefined where there is none). `needed` marks the
   * inputs whose gradient is used; others are ignored. Runs in a scope, without recording; gradients are f32,
   * f64 for f64 inputs, whatever the input's float type.
   */
  vjp(gradients: Gradients, saved: readonly Tensor[], needed: readonly boolean[]): Gradients;
}

/** A differentiated value and its gradient so far. Views of the same elements share one node. */
interface Node {
  gradient?: Tensor;
}

interface Entry {
  /** Undefined for an input that needs no gradient. */
  readonly inputs: readonly (Node | undefined)[];
  readonly outputs: readonly { readonly node: Node | undefined; readonly shape: Shape }[];
  readonly saved: readonly (Tensor | undefined)[];
  readonly vjp: TapeEntry['vjp'];
}

/** The tape that ops append to. */
let recording: Tape | undefined;
/** Whether a tape exists, recording or paused. */
let isInUse = false;

/**
 * Appends an entry when a tape is recording and an input depends on a differentiated argument. Call it after
 * the op. Outputs that are not floats carry no gradient.
 */
export function record(entry: TapeEntry): void {
  recording?.append(entry);
}

/** Whether one of these inputs needs a gradient. Ops check it before work that only backward needs. */
export function isRecorded(...inputs: readonly (Tensor | undefined)[]): boolean {
  return recording?.dependsOn(inputs) ?? false;
}

/** `view` has the same elements as `x`: they share one gradient. */
export function aliasGradient(view: Tensor, x: Tensor): void {
  recording?.alias(view, x);
}

/** Runs `fn` without recording: for a composite op that records a better vjp of its own. */
export function withoutRecording<T>(fn: () => T): T {
  return recordingTo(undefined, fn);
}

function recordingTo<T>(tape: Tape | undefined, fn: () => T): T {
  const outer = recording;
  recording = tape;
  try {
    return fn();
  } finally {
    recording = outer;
  }
}

export class Tape {
  readonly #entries: Entry[] = [];
  readonly #nodes = new Map<Tensor, Node>();

  /** @throws Error when another tape is in use: gradients of gradients are not supported. */
  constructor(leaves: readonly Tensor[]) {
    if (isInUse) throw new Error('grad: gradients of gradients are not supported');
    isInUse = true;
    for (const leaf of leaves) this.#nodes.set(leaf, {});
  }

  dependsOn(inputs: readonly (Tensor | undefined)[]): boolean {
    for (const x of inputs) if (x && this.#nodes.has(x)) return true;
    return false;
  }

  /** Runs `fn` and records. */
  run<T>(fn: () => T): T {
    return recordingTo(this, fn);
  }

  alias(view: Tensor, x: Tensor): void {
    const node = this.#nodes.get(x);
    if (node) this.#nodes.set(view, node);
  }

  append({ inputs, outputs, saved, vjp }: TapeEntry): void {
    if (!this.dependsOn(inputs) || !outputs.some(isFloat)) return;
    for (const x of saved) if (x) retain(x.storage);
    this.#entries.push({
      inputs: inputs.map((x) => x && this.#nodes.get(x)),
      outputs: outputs.map((x) => ({ node: isFloat(x) ? this.#add(x) : undefined, shape: x.shape })),
      saved,
      vjp,
    });
  }

  #add(x: Tensor): Node {
    const node = {};
    this.#nodes.set(x, node);
    return node;
  }

  /**
   * Runs backward from `root`, whose gradient is 1, and frees the memory of the entries. The tape is empty
   * afterwards.
   * @returns the gradient of each leaf; zeros where none arrived.
   */
  backward(root: Tensor, leaves: readonly Tensor[]): Tensor[] {
    return groupScope(() => {
      const start = this.#nodes.get(root);
      if (start) start.gradient = filled(root, 1);
      for (let entry = this.#entries.at(-1); entry; entry = this.#entries.at(-1)) {
        if (entry.outputs.some(({ node }) => node?.gradient)) runVjp(entry);
        this.#pop();
      }
      // A leaf listed twice has one gradient: return a separate tensor for each.
      return leaves.map((leaf) => view(this.#nodes.get(leaf)?.gradient ?? filled(leaf, 0), leaf.shape));
    });
  }

  /** Frees the memory of the entries; another tape may start. */
  end(): void {
    while (this.#entries.length > 0) this.#pop();
    isInUse = false;
  }

  #pop(): void {
    for (const x of this.#entries.pop()?.saved ?? []) if (x) release(x.storage);
  }
}

/** Runs an entry's vjp and adds the results to the inputs' gradients. */
function runVjp({ inputs, outputs, saved, vjp }: Entry): void {
  const found = scope(() => {
    const incoming = outputs.map(({ node, shape }) => node?.gradient && view(node.gradient, shape));
    const needed = inputs.map((node) => node !== undefined);
    const gradients = vjp(incoming, saved.map(readable) as Tensor[], needed);
    // A vjp may return its argument, or one tensor twice: each input gets a separate tensor.
    return inputs.map((node, i) => {
      const gradient = node && gradients[i];
      return gradient && view(gradient, gradient.shape);
    });
  });
  // The outputs' gradients are freed first, so that memory without another user can be added to in place.
  for (const { node } of outputs) {
    node?.gradient?.dispose();
    if (node) node.gradient = undefined;
  }
  for (let i = 0; i < inputs.length; i++) {
    const [node, gradient] = [inputs[i], found[i]];
    if (node && gradient) node.gradient = node.gradient ? sum(node.gradient, gradient) : gradient;
  }
}

/** The sum of two gradients. Takes ownership of both; in place when the memory has no other user. */
function sum(a: Tensor, b: Tensor): Tensor {
  const own = [a, b].find((x) => x.dtype === a.dtype && !isShared(x.storage));
  const out = own ?? allocateFor(a, a.dtype);
  addInto(out, a, b);
  for (const x of [a, b]) if (x !== out) x.dispose();
  return out;
}

/** A second tensor on the same memory. */
function view(x: Tensor, shape: Shape): Tensor {
  return new Tensor(x.storage, x.dtype, shape);
}

/** `x`, or another tensor on its memory (kept by the tape) when `x` was disposed. */
function readable(x: Tensor | undefined): Tensor | undefined {
  return x?.isDisposed ? view(x, x.shape) : x;
}

/** A gradient for `x` with every element `value`. */
function filled(x: Tensor, value: number): Tensor {
  const out = allocateFor(x, x.dtype === 'f64' ? 'f64' : 'f32');
  backendOf(x).run(fill, { out, count: out.size, value });
  return out;
}

function allocateFor(x: Tensor, dtype: DType): Tensor {
  return new Tensor(backendOf(x).allocate(byteLengthOf(dtype, x.size)), dtype, x);
}

/** Whether gradients flow through it. */
export function isFloat(x: Tensor): boolean {
  return x.dtype === 'f32' || x.dtype === 'f64' || x.dtype === 'f16' || x.dtype === 'bf16';
}
