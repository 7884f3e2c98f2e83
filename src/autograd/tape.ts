/**
 * The tape of reverse mode. While `grad` runs its function, ops on tensors that depend on an argument append an entry: who
 * went in, who came out, what the way back needs, and the op's vjp. Walking the entries backwards gives the gradients.
 *
 * Tensors are known by identity. What a vjp needs is kept as a second tensor on the same storage, so that a function may
 * free its intermediates (scopes do) without pulling them from under the tape; it goes as soon as the walk is past it.
 *
 * Source: Baydin et al. 2018, "Automatic differentiation in machine learning: a survey", section 3.2.
 */
import { backendOf } from '../backend/registry.ts';
import { byteLengthOf } from '../tensor/dtype.ts';
import { closeScope, isOfScope, openScope } from '../tensor/scope.ts';
import { stridesOf } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';

/** One per input or output; undefined = no gradient. */
export type Gradients = readonly (Tensor | undefined)[];

/** What an op records. Absent operands are `undefined` and keep their place. */
export interface TapeEntry {
  readonly op: string;
  readonly inputs: readonly (Tensor | undefined)[];
  readonly outputs: readonly Tensor[];
  /** What `vjp` reads, inputs and outputs included; handed to it in this order. The tape takes the list over. */
  readonly saved: (Tensor | undefined)[];
  /**
   * From the outputs' gradients (undefined where none arrived) to the inputs'. `needed` says which inputs want one; others
   * are ignored. Runs in a scope, with no tape; gradients are f32, f64 for f64 inputs, whatever the input's float type.
   */
  vjp(gradients: Gradients, saved: readonly Tensor[], needed: readonly boolean[]): Gradients;
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
  if (current) for (const x of inputs) if (x && current.tracks(x)) return true;
  return false;
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

/**
 * What is followed has a place in the tape's lists, which the tensor carries: no set or map grows and is thrown away with each step.
 * Leaves come first.
 */
export class Tape {
  readonly #followed: Tensor[] = [];
  /** By place. */
  readonly #gradients: (Tensor | undefined)[] = [];
  readonly #entries: TapeEntry[] = [];
  #leaves = 0;

  /** Starts to follow leaves; before `run`. */
  watch(leaves: readonly Tensor[]): void {
    for (const leaf of leaves) this.#follow(leaf);
    this.#leaves = this.#followed.length;
  }

  #follow(x: Tensor): void {
    if (!this.tracks(x)) x.tapePlace = this.#followed.push(x) - 1;
  }

  tracks(x: Tensor): boolean {
    return this.#followed[x.tapePlace] === x;
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
    const { inputs, outputs, saved } = entry;
    if (!isRecorded(...inputs) || !outputs.some(isFloat)) return;
    for (const x of outputs) if (isFloat(x)) this.#follow(x);
    for (let i = 0; i < saved.length; i++) {
      const x = saved[i];
      if (x) saved[i] = alias(x);
    }
    this.#entries.push(entry);
  }

  /**
   * Walks back from `root`, whose gradient is 1, and frees what the entries held. The tape is empty afterwards.
   * @returns the gradient of each leaf, undefined where none arrived; no scope has them: the caller tracks or frees them.
   */
  backward(root: Tensor, leaves: readonly Tensor[]): (Tensor | undefined)[] {
    try {
      if (this.tracks(root)) this.#gradients[root.tapePlace] = one(root);
      for (let entry = this.#entries.pop(); entry; entry = this.#entries.pop()) {
        try {
          this.#stepBack(entry);
        } finally {
          free(entry);
        }
      }
      // Tied leaves share one gradient: each gets its own tensor.
      return leaves.map((leaf) => {
        const gradient = this.#gradients[leaf.tapePlace];
        return gradient && alias(gradient);
      });
    } finally {
      this.dispose();
    }
  }

  /** Frees what is held. */
  dispose(): void {
    for (const entry of this.#entries) free(entry);
    for (const gradient of this.#gradients) gradient?.dispose();
    this.#entries.length = this.#gradients.length = this.#followed.length = 0;
  }

  /** The gradient of an output so far. */
  #gradientOf(x: Tensor): Tensor | undefined {
    return this.tracks(x) ? this.#gradients[x.tapePlace] : undefined;
  }

  #stepBack({ inputs, outputs, saved, vjp }: TapeEntry): void {
    const incoming = outputs.map((out) => this.#gradientOf(out));
    if (!incoming.some((g) => g)) return;
    const needed = inputs.map((x) => x !== undefined && this.tracks(x));
    const taken = new Array<Tensor | undefined>(inputs.length);
    const scope = openScope();
    try {
      const found = vjp(incoming, saved as readonly Tensor[], needed);
      for (let i = 0; i < inputs.length; i++) {
        const x = needed[i] ? found[i] : undefined;
        // What vjp made becomes the gradient itself; what it passed on, or gave twice, is seen by a second tensor.
        taken[i] = x && (!isOfScope(x) || taken.includes(x)) ? alias(x) : x;
      }
    } finally {
      closeScope(scope, (member) => {
        if (!taken.includes(member as Tensor)) member.dispose();
      });
    }
    // The outputs' gradients are no longer needed: freed first, so that one held by nobody else can be added to in place.
    for (const out of outputs) {
      if (!this.tracks(out) || out.tapePlace < this.#leaves) continue;
      this.#gradients[out.tapePlace]?.dispose();
      this.#gradients[out.tapePlace] = undefined;
    }
    for (let i = 0; i < inputs.length; i++) {
      const input = inputs[i];
      const gradient = taken[i];
      if (!input || !gradient) continue;
      const before = this.#gradients[input.tapePlace];
      this.#gradients[input.tapePlace] = before ? sum(before, gradient) : gradient;
    }
  }
}

/** The sum of two gradients, both of which it takes over; in place when nobody else holds the memory. */
function sum(a: Tensor, b: Tensor): Tensor {
  const strides = stridesOf(a.shape);
  const out = !a.storage.isShared ? a : !b.storage.isShared && b.dtype === a.dtype ? b : allocateLike(a);
  backendOf(a).binary('add', out, a, strides, b, strides);
  if (a !== out) a.dispose();
  if (b !== out) b.dispose();
  return out;
}

function allocateLike(x: Tensor): Tensor {
  return new Tensor(backendOf(x).allocate(byteLengthOf(x.dtype, x.size)), x.dtype, x.shape, false);
}

/** A second tensor on the same memory that no scope frees. */
function alias(x: Tensor): Tensor {
  return new Tensor(x.storage.retain(), x.dtype, x.shape, false);
}

function one(root: Tensor): Tensor {
  const seed = allocateLike(root);
  backendOf(root).fill(seed, 1);
  return seed;
}

function free({ saved }: TapeEntry): void {
  for (const x of saved) x?.dispose();
}

/** Whether gradients flow through it. */
export function isFloat(x: Tensor): boolean {
  return x.dtype === 'f32' || x.dtype === 'f64' || x.dtype === 'f16' || x.dtype === 'bf16';
}
