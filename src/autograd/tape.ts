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
import { isShared } from '../tensor/storage.ts';
import { Tensor } from '../tensor/tensor.ts';
import { Entries, type EntryReader, ListsByLength, type TapeEntry } from './entries.ts';

/**
 * Appends an entry, when a tape is running and one of the inputs depends on what is differentiated. Call it after the op.
 * Outputs that are not floats carry no gradient.
 */
export function record(entry: TapeEntry): void {
  if (tape.isRecording) tape.append(entry);
}

/** True when gradients are wanted of one of these: ops that need more outputs for their way back ask. */
export function isRecorded(...inputs: readonly (Tensor | undefined)[]): boolean {
  return tape.isRecording && tape.followsOne(inputs);
}

/** `view` shows the same elements as `x`: whatever arrives at one is the other's gradient. */
export function followAs(view: Tensor, x: Tensor): void {
  if (tape.isRecording) view.tapePlace = x.tapePlace;
}

/** Runs `fn` without recording: for an op made of others that has a better vjp of its own. */
export function untaped<T>(fn: () => T): T {
  const outer = tape.isRecording;
  tape.isRecording = false;
  try {
    return fn();
  } finally {
    tape.isRecording = outer;
  }
}

/** The tape, following leaves. @throws Error when it is in use: gradients of gradients are not supported. */
export function startTape(leaves: readonly Tensor[]): Tape {
  tape.start(leaves);
  return tape;
}

class Tape {
  /** Whether ops append to it. */
  isRecording = false;
  #isInUse = false;
  readonly #entries = new Entries();
  /** The next place; 0 is none. */
  #nextPlace = 1;
  /** The first leaf's place, and the first after the leaves. */
  #first = 1;
  #afterLeaves = 1;
  /** By place, from `#first` on. */
  readonly #gradients: (Tensor | undefined)[] = [];
  readonly #incoming = new ListsByLength<Tensor | undefined>();
  readonly #needed = new ListsByLength<boolean>();
  readonly #takenLists = new ListsByLength<Tensor | undefined>();
  /** What the running vjp's scope does not free. */
  #taken: (Tensor | undefined)[] = [];
  readonly #leave = (member: Disposable): void => {
    if (!this.#taken.includes(member as Tensor)) member.dispose();
  };

  start(leaves: readonly Tensor[]): void {
    if (this.#isInUse) throw new Error('grad: gradients of gradients are not supported');
    this.#isInUse = true;
    this.#first = this.#nextPlace;
    for (const leaf of leaves) this.#follow(leaf);
    this.#afterLeaves = this.#nextPlace;
  }

  #follow(x: Tensor): void {
    if (!this.#follows(x)) x.tapePlace = this.#nextPlace++;
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
    this.isRecording = true;
    try {
      return fn();
    } finally {
      this.isRecording = false;
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

  /** Frees what is held; it may be started again. */
  end(): void {
    while (!this.#entries.isEmpty) this.#entries.pop();
    for (let i = 0; i < this.#nextPlace - this.#first; i++) {
      this.#gradients[i]?.dispose();
      this.#gradients[i] = undefined;
    }
    this.#isInUse = false;
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
    const incoming = this.#incoming.of(outputs.length);
    const needed = this.#needed.of(inputs.length);
    const taken = this.#takenLists.of(inputs.length);
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

/** The one there is. Of a tape per gradient, what it grows to would be garbage that survives collections. */
const tape = new Tape();

/** The sum of two gradients, both of which it takes over; in place when nobody else holds the memory. */
function sum(a: Tensor, b: Tensor): Tensor {
  const out = !isShared(a.storage) ? a : !isShared(b.storage) && b.dtype === a.dtype ? b : allocateLike(a);
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
  return new Tensor(x.storage, x.dtype, shape, tracked);
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
