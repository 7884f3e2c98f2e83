/**
 * The tape of reverse mode. While `grad` runs its function, ops on tensors that depend on an argument append an entry: who
 * went in, who came out, what the way back needs, and the op's vjp. Walking the entries backwards gives the gradients.
 *
 * Tensors are known by identity. What a vjp needs is kept as a second tensor on the same storage, so that a function may
 * free its intermediates (scopes do) without pulling them from under the tape; it goes as soon as the walk is past it.
 *
 * Source: Baydin et al. 2018, "Automatic differentiation in machine learning: a survey", section 3.2.
 */
import type { Backend } from '../backend/backend.ts';
import { backendOf } from '../backend/registry.ts';
import { byteLengthOf } from '../tensor/dtype.ts';
import { scope, untrack } from '../tensor/scope.ts';
import { Tensor } from '../tensor/tensor.ts';

/** One per input or output; undefined = no gradient. */
export type Gradients = readonly (Tensor | undefined)[];

/** What an op records. Absent operands are `undefined` and keep their place. */
export interface TapeEntry {
  readonly op: string;
  readonly inputs: readonly (Tensor | undefined)[];
  readonly outputs: readonly Tensor[];
  /** What `vjp` reads, inputs and outputs included; handed to it in this order. */
  readonly saved: readonly (Tensor | undefined)[];
  /**
   * From the outputs' gradients (undefined where none arrived) to the inputs'. `needed` says which inputs want one; others
   * are ignored. Runs in a scope, with no tape; gradients are f32, f64 for f64 inputs, whatever the input's float type.
   */
  vjp(gradients: Gradients, saved: readonly Tensor[], needed: readonly boolean[]): Gradients;
}

interface Node {
  readonly entry: TapeEntry;
  readonly needed: readonly boolean[];
  readonly saved: readonly (Tensor | undefined)[];
}

let current: Tape | undefined;

/**
 * Appends an entry, when a tape is running and one of the inputs depends on what is differentiated. Call it after the op.
 * Outputs that are not floats carry no gradient.
 */
export function record(entry: TapeEntry): void {
  current?.append(entry);
}

/** True when gradients are wanted of one of these: ops that need more outputs for their way back ask. */
export function isRecorded(...inputs: readonly (Tensor | undefined)[]): boolean {
  return current !== undefined && inputs.some((x) => x && current?.tracks(x));
}

/** Runs `fn` without recording: for an op made of others that has a better vjp of its own. */
export function untaped<T>(fn: () => T): T {
  const outer = current;
  current = undefined;
  try {
    return fn();
  } finally {
    current = outer;
  }
}

export class Tape {
  readonly #tracked = new Set<Tensor>();
  #nodes: Node[] = [];

  /** Starts to follow a leaf. */
  watch(leaf: Tensor): void {
    this.#tracked.add(leaf);
  }

  tracks(x: Tensor): boolean {
    return this.#tracked.has(x);
  }

  /** Runs `fn` with this tape. @throws Error when another one runs: gradients of gradients are not supported. */
  run<T>(fn: () => T): T {
    if (current) throw new Error('grad: gradients of gradients are not supported');
    current = this;
    try {
      return fn();
    } finally {
      current = undefined;
    }
  }

  append(entry: TapeEntry): void {
    const needed = entry.inputs.map((x) => x !== undefined && this.#tracked.has(x));
    if (!needed.includes(true)) return;
    const outputs = entry.outputs.filter(isFloat);
    if (outputs.length === 0) return;
    for (const x of outputs) this.#tracked.add(x);
    this.#nodes.push({ entry, needed, saved: entry.saved.map((x) => x && alias(x)) });
  }

  /**
   * Walks back from `root`, whose gradient is 1, and frees what the entries held. The tape is empty afterwards.
   * @returns the gradient of each leaf, undefined where none arrived; the caller owns them.
   */
  backward(root: Tensor, leaves: readonly Tensor[]): (Tensor | undefined)[] {
    const gradients = new Map<Tensor, Tensor>();
    const wanted = new Set(leaves);
    try {
      if (this.#tracked.has(root)) gradients.set(root, one(root));
      for (let node = this.#nodes.pop(); node; node = this.#nodes.pop()) {
        stepBack(node, gradients, wanted);
        free(node);
      }
      const found = leaves.map((leaf) => gradients.get(leaf));
      // Tied leaves share one gradient: each gets its own tensor.
      const handed = found.map((g) => g && alias(g));
      return handed;
    } finally {
      for (const gradient of gradients.values()) gradient.dispose();
      this.dispose();
    }
  }

  /** Frees what the entries hold. */
  dispose(): void {
    for (const node of this.#nodes) free(node);
    this.#nodes = [];
    this.#tracked.clear();
  }
}

function stepBack(node: Node, gradients: Map<Tensor, Tensor>, leaves: ReadonlySet<Tensor>): void {
  const { entry, needed, saved } = node;
  const incoming = entry.outputs.map((out) => gradients.get(out));
  if (incoming.every((g) => g === undefined)) return;
  scope(() => {
    const found = entry.vjp(incoming, saved as readonly Tensor[], needed);
    // The outputs' gradients are no longer needed: freed first, so that one held by nobody else can be added to in place.
    const kept = entry.inputs.map((input, i) =>
      input && needed[i] && found[i] ? alias(found[i]) : undefined,
    );
    for (const x of found) if (x && !incoming.includes(x) && !saved.includes(x)) x.dispose();
    for (const out of entry.outputs) {
      if (leaves.has(out)) continue;
      gradients.get(out)?.dispose();
      gradients.delete(out);
    }
    for (const [i, input] of entry.inputs.entries()) {
      const gradient = kept[i];
      if (input && gradient) accumulate(gradients, input, gradient);
    }
  });
}

/** Adds `gradient`, which it takes over, to what is there for `x`. */
function accumulate(gradients: Map<Tensor, Tensor>, x: Tensor, gradient: Tensor): void {
  const before = gradients.get(x);
  if (!before) {
    gradients.set(x, gradient);
    return;
  }
  const backend = backendOf(before);
  const strides = rowMajor(before.shape);
  // In place when nobody else holds the memory.
  const target = [before, gradient].find((g) => !g.storage.isShared && g.dtype === before.dtype);
  const sum = target ?? allocateLike(backend, before);
  backend.binary('add', sum, before, strides, gradient, strides);
  for (const g of [before, gradient]) if (g !== sum) g.dispose();
  gradients.set(x, sum);
}

function allocateLike(backend: Backend, x: Tensor): Tensor {
  return owned(new Tensor(backend.allocate(byteLengthOf(x.dtype, x.size)), x.dtype, x.shape));
}

/** Out of every scope: the tape frees it. */
function owned(x: Tensor): Tensor {
  untrack(x);
  return x;
}

function rowMajor(shape: readonly number[]): number[] {
  let stride = 1;
  return shape
    .map((_, i) => shape[shape.length - 1 - i])
    .map((dim) => {
      const own = stride;
      stride *= dim;
      return own;
    })
    .reverse();
}

/** A second tensor on the same memory that no scope frees. */
function alias(x: Tensor): Tensor {
  return owned(new Tensor(x.storage.retain(), x.dtype, x.shape));
}

function one(root: Tensor): Tensor {
  const backend = backendOf(root);
  const seed = allocateLike(backend, root);
  backend.fill(seed, 1);
  return seed;
}

function free(node: Node): void {
  for (const x of node.saved) x?.dispose();
}

function isFloat(x: Tensor): boolean {
  return x.dtype === 'f32' || x.dtype === 'f64' || x.dtype === 'f16' || x.dtype === 'bf16';
}
