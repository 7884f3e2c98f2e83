/**
 * The entries of a tape, written on lists that all tapes use in turn. A list or an object per entry would live until the walk back is
 * past it: that was half of what a training step has alive, and V8's heap grows by what its collections find alive.
 */
import type { Tensor } from '../tensor/tensor.ts';

/** One per input or output; undefined = no gradient. */
export type Gradients = readonly (Tensor | undefined)[];

/** What an op records. Absent operands are `undefined` and keep their place. The lists are not kept. */
export interface TapeEntry {
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

/** Absent ones are undefined. */
type Tensors = (Tensor | undefined)[];

/** Reads an entry; the lists are its own no longer than it runs. */
export type EntryReader = (inputs: Tensors, outputs: Tensor[], saved: Tensors, vjp: TapeEntry['vjp']) => void;

/** A stack of entries, which keeps the memory of what they saved. */
export class Entries {
  #length = 0;
  /** Of each entry its inputs, outputs and saved tensors, up to `#end`. */
  readonly #tensors: Tensors = [];
  #end = 0;
  /** Of each entry how many of them. */
  readonly #counts: number[] = [];
  readonly #vjps: (TapeEntry['vjp'] | undefined)[] = [];
  readonly #inputs = new ListsByLength<Tensor | undefined>();
  readonly #outputs = new ListsByLength<Tensor>();
  readonly #saved = new ListsByLength<Tensor | undefined>();

  get length(): number {
    return this.#length;
  }

  push({ inputs, outputs, saved, vjp }: TapeEntry): void {
    for (const x of inputs) this.#tensors[this.#end++] = x;
    for (const x of outputs) this.#tensors[this.#end++] = x;
    for (const x of saved) this.#tensors[this.#end++] = x;
    for (const x of saved) x?.storage.retain();
    const at = 3 * this.#length;
    this.#counts[at] = inputs.length;
    this.#counts[at + 1] = outputs.length;
    this.#counts[at + 2] = saved.length;
    this.#vjps[this.#length++] = vjp;
  }

  /** Takes the newest entry off, lets `read` read it, and lets go of its memory. */
  pop(read?: EntryReader): void {
    const vjp = this.#vjps[--this.#length] as TapeEntry['vjp'];
    this.#vjps[this.#length] = undefined;
    const at = 3 * this.#length;
    const saved = this.#take(this.#saved.of(this.#counts[at + 2]));
    const outputs = this.#take(this.#outputs.of(this.#counts[at + 1]));
    const inputs = this.#take(this.#inputs.of(this.#counts[at]));
    try {
      read?.(inputs, outputs, saved, vjp);
    } finally {
      for (const x of saved) x?.storage.release();
      for (const list of [inputs, outputs, saved] as Tensors[]) list.fill(undefined);
    }
  }

  /** Moves the last tensors to `list`, which is full of them then. */
  #take<T extends Tensor | undefined>(list: T[]): T[] {
    for (let i = list.length - 1; i >= 0; i--) {
      list[i] = this.#tensors[--this.#end] as T;
      this.#tensors[this.#end] = undefined;
    }
    return list;
  }
}

/** A list of each length, used again and again. */
export class ListsByLength<T> {
  readonly #lists: T[][] = [];

  of(length: number): T[] {
    this.#lists[length] ??= new Array<T>(length);
    return this.#lists[length];
  }
}
