/**
 * Lifetimes. A tensor made inside `scope(fn)` is freed when the scope ends, unless `fn` returns it; nested scopes
 * hand their results to the scope around them. Outside every scope a `FinalizationRegistry` frees what the garbage
 * collector finds: the safety net, not the plan.
 *
 * A training step makes hundreds of tensors, and what of them V8 finds alive makes its heap grow. So tensors carry their place in the one
 * list that has them, lists are used again, and what is disposed leaves them at once.
 */
import { checkFunction } from '../arguments/kinds.ts';
import { ownerOf, release, type Storage } from './storage.ts';

/** What a scope can free; a tensor. */
export interface Disposable {
  readonly storage: Storage;
  /** Its index in the list or the net that has it, if one does. */
  scopePlace: number;
  net: SafetyNet | undefined;
  dispose(): void;
}

class List {
  readonly #members: (Disposable | undefined)[] = [];
  #length = 0;
  /** The length at which gaps are closed: a long loop in one scope stays flat. */
  #limit = LEAST_LIMIT;

  add(tensor: Disposable): void {
    if (this.#length === this.#limit) this.#closeGaps();
    this.#members[this.#length] = tensor;
    tensor.scopePlace = this.#length++;
  }

  has(tensor: Disposable): boolean {
    return tensor.scopePlace < this.#length && this.#members[tensor.scopePlace] === tensor;
  }

  remove(tensor: Disposable): boolean {
    const found = this.has(tensor);
    if (found) this.#members[tensor.scopePlace] = undefined;
    return found;
  }

  /** Takes all out, in order, and hands them to `leave`, which may add to other lists. */
  empty(leave: (member: Disposable) => void): void {
    const length = this.#length;
    for (let i = 0; i < length; i++) {
      const member = this.#members[i];
      this.#members[i] = undefined;
      if (member) leave(member);
    }
    this.#length = 0;
    this.#limit = LEAST_LIMIT;
    if (length > LEAST_LIMIT) this.#members.length = 0;
  }

  #closeGaps(): void {
    let length = 0;
    for (let i = 0; i < this.#length; i++) {
      const member = this.#members[i];
      this.#members[i] = undefined;
      if (!member) continue;
      this.#members[length] = member;
      member.scopePlace = length++;
    }
    this.#length = length;
    this.#limit = Math.max(LEAST_LIMIT, 2 * length);
  }
}

const LEAST_LIMIT = 256;
/** By depth; those of the open scopes are the first `depth`. */
const scopes: List[] = [];
let depth = 0;

/** What tensors outside of every scope hold on to: when none of them is left, the garbage collector finds it, and their memory is freed. */
interface SafetyNet {
  /** By place; undefined when that tensor was freed. */
  readonly storages: (Storage | undefined)[];
  left: number;
}
const registry = new FinalizationRegistry<SafetyNet['storages']>((storages) => {
  for (const storage of storages) {
    if (!storage) continue;
    ownerOf(storage).weigh(storage, -1);
    release(storage);
  }
});
/**
 * Nets whose tensors were all freed, for as many new ones. V8 makes what a registration needs among its old objects, where it
 * keeps the net alive over the next collection: a new one per training step made its heap grow.
 */
const idleNets = new Map<number, SafetyNet[]>();
/** Of each size. */
const MOST_IDLE_NETS = 16;

/** A net that small tensors enter one after another: a loss per training step, each with a net, was a seventh of what a collection found alive. */
let common: SafetyNet | undefined;
/** Its next place. */
let commonPlace = 0;
const COMMON_SIZE = 16;
/** They are found when none of the net is left, so that one which stays keeps a kilobyte at most. */
const MOST_COMMON_BYTES = 64;

/** Enters a new tensor into the innermost scope, or into the safety net when there is none. */
export function track(tensor: Disposable): void {
  if (depth > 0) scopes[depth - 1].add(tensor);
  else if (tensor.storage.byteLength <= MOST_COMMON_BYTES) registerCommonly(tensor);
  else register([tensor]);
}

/** The same for tensors that come together. Without a scope they share a net, and are found when none is left. */
export function trackAll(tensors: readonly Disposable[]): void {
  if (depth > 0) for (const tensor of tensors) scopes[depth - 1].add(tensor);
  else if (tensors.length > 0) register(tensors);
}

/** One net for all. */
function register(tensors: readonly Disposable[]): void {
  const net = emptyNet(tensors.length);
  for (let i = 0; i < tensors.length; i++) enter(net, i, tensors[i]);
}

function registerCommonly(tensor: Disposable): void {
  if (!common || commonPlace === COMMON_SIZE) {
    common = emptyNet(COMMON_SIZE);
    commonPlace = 0;
  }
  enter(common, commonPlace++, tensor);
}

function enter(net: SafetyNet, place: number, tensor: Disposable): void {
  net.storages[place] = tensor.storage;
  net.left++;
  ownerOf(tensor.storage).weigh(tensor.storage, 1);
  tensor.scopePlace = place;
  tensor.net = net;
}

function emptyNet(size: number): SafetyNet {
  const idle = idleNets.get(size)?.pop();
  if (idle) return idle;
  const net: SafetyNet = { storages: new Array(size), left: 0 };
  registry.register(net, net.storages);
  return net;
}

function leaveIdle(net: SafetyNet): void {
  const size = net.storages.length;
  const idle = idleNets.get(size);
  if (!idle) idleNets.set(size, [net]);
  else if (idle.length < MOST_IDLE_NETS) idle.push(net);
}

/** Takes a tensor out of its scope or the safety net: it was freed. */
export function untrack(tensor: Disposable): void {
  const { net, storage } = tensor;
  if (net) {
    net.storages[tensor.scopePlace] = undefined;
    if (--net.left === 0) {
      if (net === common) commonPlace = 0;
      else leaveIdle(net);
    }
    ownerOf(storage).weigh(storage, -1);
    tensor.net = undefined;
    return;
  }
  for (let i = depth - 1; i >= 0; i--) if (scopes[i].remove(tensor)) return;
}

/** Moves a tensor from its scope to the safety net: something that lives on and is itself collected (a parameter) owns it now. */
export function adopt(tensor: Disposable): void {
  untrack(tensor);
  register([tensor]);
}

/**
 * Runs `fn` and frees every tensor made inside that its result does not hold. The result may be a tensor or nested
 * arrays, maps and plain objects of tensors.
 * @throws TypeError when `fn` returns a promise: tensors made after an `await` would escape the scope.
 * @returns what `fn` returned.
 */
export function scope<T>(fn: () => T): T {
  checkFunction('scope', fn);
  const own = openScope();
  let result: T | undefined;
  try {
    result = fn();
    if (typeof (result as { then?: unknown } | undefined)?.then === 'function') {
      result = undefined;
      throw new TypeError(
        'scope: expected a plain result, got a promise; await inside would escape the scope',
      );
    }
    return result;
  } finally {
    const several =
      typeof result === 'object' && result !== null && !isTensorLike(result) ? collect(result) : undefined;
    closeScope(own, (member) => {
      if (member === result || several?.has(member)) track(member);
      else member.dispose();
    });
  }
}

/** The halves of `scope`, for those who decide themselves what is freed. @returns the depth that `closeScope` asks for. */
export function openScope(): number {
  if (scopes.length === depth) scopes.push(new List());
  return ++depth;
}

/** Whether this was made in the innermost scope. */
export function isOfScope(tensor: Disposable): boolean {
  return depth > 0 && scopes[depth - 1].has(tensor);
}

/**
 * Ends the innermost scope and hands each live tensor that was made in it to `leave`, which opens no scope: nothing is
 * freed here.
 */
export function closeScope(own: number, leave: (member: Disposable) => void): void {
  depth = own - 1;
  scopes[depth].empty(leave);
}

function collect(value: unknown, into: Set<unknown> = new Set()): Set<unknown> {
  if (value === null || typeof value !== 'object' || into.has(value)) return into;
  into.add(value);
  if (isTensorLike(value) || ArrayBuffer.isView(value)) return into;
  const items = value instanceof Map || value instanceof Set ? value.values() : Object.values(value);
  for (const item of items) collect(item, into);
  return into;
}

function isTensorLike(value: object): boolean {
  return 'storage' in value && 'dispose' in value;
}
