/**
 * The entries of a tape, written on lists that all tapes use in turn. A list or an object per entry would live until the walk back is
 * past it, and so would tensors whose places suffice: that was half of what a training step has alive, and V8's heap grows by what
 * its collections find alive.
 */
import type { Shape } from '../tensor/shape.ts';
import { release, retain } from '../tensor/storage.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** One per input or output; undefined = no gradient. */
export type Gradients = readonly (Tensor | undefined)[];

/** What an op records. Absent operands are `undefined` and keep their place. Of the lists nothing is kept. */
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

/** Reads an entry: the places of its inputs (0 of absent ones) and outputs, and what was recorded. The lists are its own no longer than that. */
export type EntryReader = (
  inputs: readonly number[],
  outputs: readonly number[],
  outputShapes: readonly Shape[],
  saved: (Tensor | undefined)[],
  vjp: TapeEntry['vjp'],
) => void;

/** A stack of entries, which keeps the memory of what they saved. */
export class Entries {
  /** Of each entry the number of inputs, outputs and saved tensors, and the places of inputs and outputs. */
  readonly #numbers: number[] = [];
  #end = 0;
  readonly #shapes = new Stack<Shape>();
  readonly #saved = new Stack<Tensor | undefined>();
  readonly #vjps = new Stack<TapeEntry['vjp']>();
  readonly #inputs = new ListsByLength<number>();
  readonly #outputs = new ListsByLength<number>();

  get isEmpty(): boolean {
    return this.#end === 0;
  }

  push({ inputs, outputs, saved, vjp }: TapeEntry): void {
    for (const x of inputs) this.#numbers[this.#end++] = x ? x.tapePlace : 0;
    for (const x of outputs) this.#numbers[this.#end++] = x.tapePlace;
    for (const x of outputs) this.#shapes.push(x.shape);
    for (const x of saved) this.#saved.push(x);
    for (const x of saved) if (x) retain(x.storage);
    this.#vjps.push(vjp);
    this.#numbers[this.#end++] = inputs.length;
    this.#numbers[this.#end++] = outputs.length;
    this.#numbers[this.#end++] = saved.length;
  }

  /** Takes the newest entry off, lets `read` read it, and lets go of its memory. */
  pop(read?: EntryReader): void {
    const vjp = this.#vjps.pop();
    const saved = this.#saved.popMany(this.#numbers[--this.#end]);
    const outputs = this.#outputs.of(this.#numbers[--this.#end]);
    const inputs = this.#inputs.of(this.#numbers[--this.#end]);
    const outputShapes = this.#shapes.popMany(outputs.length);
    for (let i = outputs.length - 1; i >= 0; i--) outputs[i] = this.#numbers[--this.#end];
    for (let i = inputs.length - 1; i >= 0; i--) inputs[i] = this.#numbers[--this.#end];
    try {
      read?.(inputs, outputs, outputShapes, saved, vjp);
    } finally {
      for (const x of saved) if (x) release(x.storage);
      saved.fill(undefined);
    }
  }
}

/** A list that grows and shrinks at its end and keeps its room. */
class Stack<T> {
  readonly #items: (T | undefined)[] = [];
  #length = 0;
  readonly #lists = new ListsByLength<T>();

  push(item: T): void {
    this.#items[this.#length++] = item;
  }

  pop(): T {
    const item = this.#items[--this.#length] as T;
    this.#items[this.#length] = undefined;
    return item;
  }

  /** The last `count`, in the order in which they came; the next call of the same count writes over the list. */
  popMany(count: number): T[] {
    const list = this.#lists.of(count);
    for (let i = count - 1; i >= 0; i--) list[i] = this.pop();
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
