/**
 * Lifetimes. A tensor made inside `scope(fn)` is freed when the scope ends, unless `fn` returns it; nested scopes
 * hand their results to the scope around them. Outside every scope a `FinalizationRegistry` frees what the garbage
 * collector finds: the safety net, not the plan.
 *
 * A training step makes hundreds of tensors: a scope is a list to push to, and what is disposed early just stays in it.
 */
import { checkFunction } from './arguments.ts';
import type { Storage } from './storage.ts';

/** What a scope can free; a tensor. */
export interface Disposable {
  readonly storage: Storage;
  readonly isDisposed: boolean;
  dispose(): void;
}

interface Scope {
  members: Disposable[];
  /** Members at which those that were disposed are dropped: a long loop in one scope stays flat. */
  limit: number;
}

const LEAST_LIMIT = 256;
const open: Scope[] = [];
const registry = new FinalizationRegistry<Storage>((storage) => storage.release());

/** Enters a new tensor into the innermost scope, or into the safety net when there is none. */
export function track(tensor: Disposable): void {
  if (open.length === 0) {
    registry.register(tensor, tensor.storage, tensor);
    return;
  }
  const innermost = open[open.length - 1];
  if (innermost.members.length >= innermost.limit) {
    innermost.members = innermost.members.filter((member) => !member.isDisposed);
    innermost.limit = Math.max(LEAST_LIMIT, 2 * innermost.members.length);
  }
  innermost.members.push(tensor);
}

/** Takes a freed tensor out of the safety net. */
export function forget(tensor: Disposable): void {
  registry.unregister(tensor);
}

/** Moves a tensor from its scope to the safety net: something that lives on and is itself collected (a parameter) owns it now. */
export function adopt(tensor: Disposable): void {
  for (const { members } of open) {
    const index = members.lastIndexOf(tensor);
    if (index >= 0) members.splice(index, 1);
  }
  registry.unregister(tensor);
  registry.register(tensor, tensor.storage, tensor);
}

/**
 * Runs `fn` and frees every tensor made inside that its result does not hold. The result may be a tensor or nested
 * arrays, maps and plain objects of tensors.
 * @throws TypeError when `fn` returns a promise: tensors made after an `await` would escape the scope.
 * @returns what `fn` returned.
 */
export function scope<T>(fn: () => T): T {
  checkFunction('scope', fn);
  const depth = openScope();
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
    const members = closeScope(depth);
    const several =
      typeof result === 'object' && result !== null && !isTensorLike(result) ? collect(result) : undefined;
    for (const member of members) {
      if (member.isDisposed) continue;
      if (member === result || several?.has(member)) track(member);
      else member.dispose();
    }
  }
}

/** The two halves of `scope`, for those who decide themselves what is freed. @returns the depth that `closeScope` asks for. */
export function openScope(): number {
  return open.push({ members: [], limit: LEAST_LIMIT });
}

/** Ends the scope, and any inside of it. @returns what was made in it, disposed or not; nothing is freed. */
export function closeScope(depth: number): readonly Disposable[] {
  const { members } = open[depth - 1];
  open.length = depth - 1;
  return members;
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
