/**
 * The tape of reverse mode. While `grad` runs its function, ops on tensors that depend on an argument append an entry: who
 * went in, who came out, what the way back needs, and the op's vjp. Walking the entries backwards gives the gradients.
 *
 * A tensor that is followed carries a place, a number no other tape gives out; a reshape has the place of what it shows. The memory of what a
 * vjp needs is kept, so that a function may free its intermediates (scopes do) without pulling them from under the tape; it goes as soon as
 * the walk is past it.
 *
 * Source: Baydin et al. 2018, "Automatic differentiation in machine learning: a survey", section 3.2.
 */
import { backendOf } from '../backend/registry.ts';
import { byteLengthOf } from '../tensor/dtype.ts';
import { closeScope, type Disposable, isOfScope, openScope } from '../tensor/scope.ts';
import { type Shape, sameShape, stridesOf } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';
import { Entries, type EntryReader, ListsByLength, type TapeEntry } from './entries.ts';

/** The one tape there is at a time, and whether ops are being recorded on it. */
let tape: Tape | undefined;
let recording = false;
/** The next place; 0 is none. */
let nextPlace = 1;
/** What tapes use in turn, empty between them: what grows with each step anew is garbage that survives collections. */
const spare = {
  entries: new Entries(),
  gradients: [] as (Tensor | undefined)[],
  incoming: new ListsByLength<Tensor | undefined>(),
  needed: new ListsByLength<boolean>(),
  taken: new ListsByLength<Tensor | undefined>(),
};

/**
 * Appends an entry, when a tape is running and one of the inputs depends on what is differentiated. Call it after the op.
 * Outputs that are not floats carry no gradient.
 */
export function record(entry: TapeEntry): void {
  if (recording) tape?.append(entry);
}

/** True when gradients are wanted of one of these: ops that need more outputs for their way back ask. */
export function isRecorded(...inputs: readonly (Tensor | undefined)[]): boolean {
  return recording && (tape?.followsOne(inputs) ?? false);
}

/** `view` shows the same elements as `x`: whatever arrives at one is the other's gradient. */
export function followAs(view: Tensor, x: Tensor): void {
  if (recording) view.tapePlace = x.tapePlace;
}

/** Runs `fn` without recording: for an op made of others that has a better vjp of its own. */
export function untaped<T>(fn: () => T): T {
  const outer = recording;
  recording = false;
  try {
    return fn();
  } finally {
    recording = outer;
  }
}

export class Tape {
  readonly #entries = spare.entries;
  /** By place, from `#first` on, which is the first leaf's. */
  readonly #gradients = spare.gradients;
  readonly #first = nextPlace;
  readonly #afterLeaves: number;
  /** What the running vjp's scope does not free. */
  #taken: (Tensor | undefined)[] = [];
  readonly #leave = (member: Disposable): void => {
    if (!this.#taken.includes(member as Tensor)) member.dispose();
  };

  /** Starts to follow leaves. @throws Error when there is another tape: gradients of gradients are not supported. */
  constructor(leaves: readonly Tensor[]) {
    if (tape) throw new Error('grad: gradients of gradients are not supported');
    tape = this;
    for (const leaf of leaves) this.#follow(leaf);
    this.#afterLeaves = nextPlace;
  }

  #follow(x: Tensor): void {
    if (!this.#follows(x)) x.tapePlace = nextPlace++;
  }

  /** Places of earlier tapes are lower. */
  #follows(x: Tensor | undefined): boolean {
    return x !== undefined && x.tapePlace >= this.#first;
  }

  followsOne(inputs: readonly (Tensor | undefined)[]): boolean {
    for (const x of inputs) if (this.#follows(x)) return true;
    return false;
  }

  /** Runs `fn` and records. */
  run<T>(fn: () => T): T {
    recording = true;
    try {
      return fn();
    } finally {
      recording = false;
    }
  }

  append(entry: TapeEntry): void {
    const { inputs, outputs } = entry;
    if (!this.followsOne(inputs) || !outputs.some(isFloat)) return;
    for (const x of outputs) if (isFloat(x)) this.#follow(x);
    this.#entries.push(entry);
  }

  /**
   * Walks back from `root`, whose gradient is 1, and frees what the entries held. The tape is empty afterwards.
   * @returns the gradient of each leaf, undefined where none arrived; no scope has them: the caller tracks or frees them.
   */
  backward(root: Tensor, leaves: readonly Tensor[]): (Tensor | undefined)[] {
    if (this.#follows(root)) this.#gradients[root.tapePlace - this.#first] = one(root);
    while (!this.#entries.isEmpty) this.#entries.pop(this.#stepBack);
    let seen = 0;
    const gradients = leaves.map((leaf) => {
      const index = leaf.tapePlace - this.#first;
      const gradient = this.#gradients[index];
      // A leaf that is there again has the same gradient: each gets its own tensor.
      if (index < seen) return gradient && view(gradient, leaf.shape, false);
      seen = index + 1;
      const own = gradient && inShape(gradient, leaf.shape, false);
      if (own !== gradient) gradient?.dispose();
      this.#gradients[index] = own;
      return own;
    });
    for (let i = 0; i < seen; i++) this.#gradients[i] = undefined;
    return gradients;
  }

  /** Frees what is held. The next tape may come. */
  dispose(): void {
    while (!this.#entries.isEmpty) this.#entries.pop();
    for (let i = 0; i < nextPlace - this.#first; i++) {
      this.#gradients[i]?.dispose();
      this.#gradients[i] = undefined;
    }
    tape = undefined;
  }

  /** The gradient so far, as it came: its shape may be that of another tensor on the same elements. */
  #gradientAt(place: number): Tensor | undefined {
    return place < this.#first ? undefined : this.#gradients[place - this.#first];
  }

  #arrivedAtOne(places: readonly number[]): boolean {
    for (const place of places) if (this.#gradientAt(place)) return true;
    return false;
  }

  readonly #stepBack: EntryReader = (inputs, outputs, outputShapes, saved, vjp) => {
    if (!this.#arrivedAtOne(outputs)) return;
    const incoming = spare.incoming.of(outputs.length);
    const needed = spare.needed.of(inputs.length);
    const taken = spare.taken.of(inputs.length);
    this.#taken = taken;
    const scope = openScope();
    try {
      for (let i = 0; i < outputs.length; i++) {
        const gradient = this.#gradientAt(outputs[i]);
        incoming[i] = gradient && inShape(gradient, outputShapes[i], true);
      }
      for (let i = 0; i < inputs.length; i++) needed[i] = inputs[i] >= this.#first;
      for (let i = 0; i < saved.length; i++) saved[i] = readable(saved[i]);
      const found = vjp(incoming, saved as readonly Tensor[], needed);
      for (let i = 0; i < inputs.length; i++) {
        const x = needed[i] ? found[i] : undefined;
        // What vjp made becomes the gradient itself; what it passed on, or gave twice, is seen by a second tensor.
        taken[i] = x && (!isOfScope(x) || taken.includes(x)) ? view(x, x.shape, false) : x;
      }
    } finally {
      closeScope(scope, this.#leave);
    }
    // The outputs' gradients are no longer needed: freed first, so that one held by nobody else can be added to in place.
    for (const place of outputs) {
      if (place < this.#afterLeaves) continue;
      this.#gradientAt(place)?.dispose();
      this.#gradients[place - this.#first] = undefined;
    }
    for (let i = 0; i < inputs.length; i++) {
      const gradient = taken[i];
      if (!gradient) continue;
      const before = this.#gradientAt(inputs[i]);
      this.#gradients[inputs[i] - this.#first] = before ? sum(before, gradient) : gradient;
    }
    incoming.fill(undefined);
    taken.fill(undefined);
  };
}

/** The sum of two gradients, both of which it takes over; in place when nobody else holds the memory. */
function sum(a: Tensor, b: Tensor): Tensor {
  const out = !a.storage.isShared ? a : !b.storage.isShared && b.dtype === a.dtype ? b : allocateLike(a);
  const strides = stridesOf(out.shape);
  backendOf(a).binary('add', out, a, strides, b, strides);
  if (a !== out) a.dispose();
  if (b !== out) b.dispose();
  return out;
}

function allocateLike(x: Tensor): Tensor {
  return new Tensor(backendOf(x).allocate(byteLengthOf(x.dtype, x.size)), x.dtype, x.shape, false);
}

/** A second tensor on the same memory; not `tracked`: no scope frees it. */
function view(x: Tensor, shape: Shape, tracked: boolean): Tensor {
  return new Tensor(x.storage.retain(), x.dtype, shape, tracked);
}

function inShape(x: Tensor, shape: Shape, tracked: boolean): Tensor {
  return sameShape(x.shape, shape) ? x : view(x, shape, tracked);
}

/** `x`, or a tensor of the scope in its place where it was disposed of: the tape kept the memory. */
function readable(x: Tensor | undefined): Tensor | undefined {
  return x?.isDisposed ? view(x, x.shape, true) : x;
}

function one(root: Tensor): Tensor {
  const seed = allocateLike(root);
  backendOf(root).fill(seed, 1);
  return seed;
}

/** Whether gradients flow through it. */
export function isFloat(x: Tensor): boolean {
  return x.dtype === 'f32' || x.dtype === 'f64' || x.dtype === 'f16' || x.dtype === 'bf16';
}
