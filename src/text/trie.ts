/** A trie over UTF-16 units, with its edges in one hash table. */
import { refuse } from './steps.ts';

/**
 * Maximum entry length: search time is text length times the longest entry. Published vocabularies stay below
 * 130.
 */
const maxLength = 1024;

export class Trie {
  /** Hash table of (node, unit, child node); a slot is empty where the node is -1. */
  #nodes: Int32Array;
  #units: Uint16Array;
  #next: Int32Array;
  #edges = 0;
  #nodeCount = 1;
  /** Value by node; -1 when no entry ends there. */
  #values: Int32Array;

  constructor() {
    this.#nodes = new Int32Array(64).fill(-1);
    this.#units = new Uint16Array(64);
    this.#next = new Int32Array(64);
    this.#values = new Int32Array(64).fill(-1);
  }

  /** Keeps the first value of an entry unless `replace` is true. */
  set(text: string, value: number, replace = false): void {
    if (text.length > maxLength) refuse(`tokens of at most ${maxLength} characters`, text.length);
    let node = 0;
    for (let i = 0; i < text.length; i++) {
      const unit = text.charCodeAt(i);
      let next = this.step(node, unit);
      if (next < 0) {
        next = this.#nodeCount++;
        this.#insert(node, unit, next);
      }
      node = next;
    }
    if (replace || this.#values[node] < 0) this.#values[node] = value;
  }

  /** The child of a node (0 is the root) by a UTF-16 unit; -1 when there is none. */
  step(node: number, unit: number): number {
    const nodes = this.#nodes;
    const mask = nodes.length - 1;
    for (let slot = hash(node, unit) & mask; nodes[slot] >= 0; slot = (slot + 1) & mask) {
      if (nodes[slot] === node && this.#units[slot] === unit) return this.#next[slot];
    }
    return -1;
  }

  /** The value of the entry that ends at a node; -1 when there is none. */
  value(node: number): number {
    return this.#values[node];
  }

  #insert(node: number, unit: number, next: number): void {
    if (++this.#edges * 2 > this.#nodes.length) this.#grow();
    this.#place(node, unit, next);
    if (this.#nodeCount > this.#values.length) {
      const values = new Int32Array(this.#values.length * 2).fill(-1);
      values.set(this.#values);
      this.#values = values;
    }
  }

  #place(node: number, unit: number, next: number): void {
    const mask = this.#nodes.length - 1;
    let slot = hash(node, unit) & mask;
    while (this.#nodes[slot] >= 0) slot = (slot + 1) & mask;
    this.#nodes[slot] = node;
    this.#units[slot] = unit;
    this.#next[slot] = next;
  }

  #grow(): void {
    const nodes = this.#nodes;
    const units = this.#units;
    const next = this.#next;
    this.#nodes = new Int32Array(nodes.length * 2).fill(-1);
    this.#units = new Uint16Array(nodes.length * 2);
    this.#next = new Int32Array(nodes.length * 2);
    for (let i = 0; i < nodes.length; i++) if (nodes[i] >= 0) this.#place(nodes[i], units[i], next[i]);
  }
}

/** Hashes two integers to 32 bits. */
export function hash(a: number, b: number): number {
  let h = Math.imul(a, 0x9e3779b1) ^ Math.imul(b + 1, 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 15), 0xc2b2ae35);
  return h ^ (h >>> 13);
}
