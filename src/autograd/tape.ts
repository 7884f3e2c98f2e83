/**
 * The tape of reverse mode. While `grad` runs its function, ops on tensors that depend on an argument append an entry:
 * inputs, outputs, the tensors that backward reads, and the op's vjp. Walking the entries backwards gives the gradients.
 *
 * An entry holds the memory of what its vjp reads, so that a function may free its intermediates (scopes do), until the
 * walk is past it.
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

/** What an op records. Absent operands are `undefined` and keep their place. */
export interface TapeEntry {
  readonly inputs: readonly (Tensor | undefined)[];
  readonly outputs: readonly Tensor[];
  /** What `vjp` reads, inputs and outputs included; handed to it in this order. */
  readonly saved: readonly (Tensor | undefined)[];
  /**
   * From the outputs' gradients (undefined where none arrived) to the inputs'. `needed` says which inputs want one; others
   * are ignored. Runs in a scope, without recording; gradients are f32, f64 for f64 inputs, whatever the input's float type.
   */
  vjp(gradients: Gradients, saved: readonly Tensor[], needed: readonly boolean[]): Gradients;
}

/** A value that the gradients depend on, shared by the tensors that show its elements, and its gradient so far. */
interface Node {
  gradient?: Tensor;
}

interface Entry {
  /** Undefined for what needs no gradient. */
  readonly inputs: readonly (Node | undefined)[];
  readonly outputs: readonly { readonly node: Node | undefined; readonly shape: Shape }[];
  readonly saved: readonly (Tensor | undefined)[];
  readonly vjp: TapeEntry['vjp'];
}

/** The tape that ops append to. */
let recording: Tape | undefined;
/** Whether there is a tape, also while none records. */
let isInUse = false;

/**
 * Appends an entry, when a tape is running and one of the inputs depends on what is differentiated. Call it after the op.
 * Outputs that are not floats carry no gradient.
 */
export function record(entry: TapeEntry): void {
  recording?.append(entry);
}

/** Whether gradients are wanted of one of these. Ops ask before they do something for backward alone. */
export function isRecorded(...inputs: readonly (Tensor | undefined)[]): boolean {
  return recording?.dependsOn(inputs) ?? false;
}

/** `view` shows the same elements as `x`: both have one gradient. */
export function aliasGradient(view: Tensor, x: Tensor): void {
  recording?.alias(view, x);
}

/** Runs `fn` without recording: for an op made of others that has a better vjp of its own. */
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
   * Walks back from `root`, whose gradient is 1, and frees what the entries held. The tape is empty afterwards.
   * @returns the gradient of each leaf; zeros where none arrived.
   */
  backward(root: Tensor, leaves: readonly Tensor[]): Tensor[] {
    return groupScope(() => {
      const start = this.#nodes.get(root);
      if (start) start.gradient = filled(root, 1);
      for (let entry = this.#entries.at(-1); entry; entry = this.#entries.at(-1)) {
        if (entry.outputs.some(({ node }) => node?.gradient)) stepBack(entry);
        this.#pop();
      }
      // A leaf that is there twice has one gradient: each gets a tensor of its own.
      return leaves.map((leaf) => view(this.#nodes.get(leaf)?.gradient ?? filled(leaf, 0), leaf.shape));
    });
  }

  /** Frees what entries hold; another tape may start. */
  end(): void {
    while (this.#entries.length > 0) this.#pop();
    isInUse = false;
  }

  #pop(): void {
    for (const x of this.#entries.pop()?.saved ?? []) if (x) release(x.storage);
  }
}

/** Runs an entry's vjp and adds what it gives to the inputs' gradients. */
function stepBack({ inputs, outputs, saved, vjp }: Entry): void {
  const found = scope(() => {
    const incoming = outputs.map(({ node, shape }) => node?.gradient && view(node.gradient, shape));
    const needed = inputs.map((node) => node !== undefined);
    const gradients = vjp(incoming, saved.map(readable) as Tensor[], needed);
    // A vjp may pass a gradient on, or give one twice: each input gets a tensor of its own.
    return inputs.map((node, i) => {
      const gradient = node && gradients[i];
      return gradient && view(gradient, gradient.shape);
    });
  });
  // The outputs' gradients are freed first, so that one which nobody else holds can be added to in place.
  for (const { node } of outputs) {
    node?.gradient?.dispose();
    if (node) node.gradient = undefined;
  }
  for (let i = 0; i < inputs.length; i++) {
    const [node, gradient] = [inputs[i], found[i]];
    if (node && gradient) node.gradient = node.gradient ? sum(node.gradient, gradient) : gradient;
  }
}

/** The sum of two gradients, both of which it takes over; in place when nobody else holds the memory. */
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

/** `x`, or another tensor on its memory, which the tape kept, where it was disposed of. */
function readable(x: Tensor | undefined): Tensor | undefined {
  return x?.isDisposed ? view(x, x.shape) : x;
}

/** A gradient of `x` that is `value` everywhere. */
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
