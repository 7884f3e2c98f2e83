/**
 * Lifetimes. A tensor made inside `scope(fn)` is freed when the scope ends, unless `fn` returns it; nested scopes
 * hand their results to the scope around them. Outside every scope a `FinalizationRegistry` frees what the garbage
 * collector finds: the safety net, not the plan.
 */
import { checkFunction } from './arguments.ts';
import type { Storage } from './storage.ts';

/** What a scope can free; a tensor. */
export interface Disposable {
  readonly storage: Storage;
  readonly isDisposed: boolean;
  dispose(): void;
}

const open: Set<Disposable>[] = [];
const registry = new FinalizationRegistry<Storage>((storage) => storage.release());

/** Enters a new tensor into the innermost scope, or into the safety net when there is none. */
export function track(tensor: Disposable): void {
  const scope = open.at(-1);
  if (scope) scope.add(tensor);
  else registry.register(tensor, tensor.storage, tensor);
}

/** Takes a tensor out of the scope or the safety net: it was freed, or something that lives on (a parameter, a cache) owns it now. */
export function untrack(tensor: Disposable): void {
  for (let i = open.length - 1; i >= 0; i--) if (open[i].delete(tensor)) return;
  registry.unregister(tensor);
}

/** Moves a tensor from its scope to the safety net: something that lives on and is itself collected (a parameter) owns it now. */
export function adopt(tensor: Disposable): void {
  untrack(tensor);
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
  const mine = new Set<Disposable>();
  open.push(mine);
  const depth = open.length;
  const kept = new Set<unknown>();
  try {
    const result = fn();
    if (typeof (result as { then?: unknown } | undefined)?.then === 'function') {
      throw new TypeError(
        'scope: expected a plain result, got a promise; await inside would escape the scope',
      );
    }
    collect(result, kept);
    return result;
  } finally {
    open.length = depth - 1;
    for (const tensor of mine) {
      if (kept.has(tensor)) track(tensor);
      else tensor.dispose();
    }
  }
}

function collect(value: unknown, into: Set<unknown>): void {
  if (value === null || typeof value !== 'object' || into.has(value)) return;
  into.add(value);
  if (isTensorLike(value) || ArrayBuffer.isView(value)) return;
  const items = value instanceof Map || value instanceof Set ? value.values() : Object.values(value);
  for (const item of items) collect(item, into);
}

function isTensorLike(value: object): boolean {
  return 'storage' in value && 'dispose' in value;
}
