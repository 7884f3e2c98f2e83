/**
 * Lifetimes. A tensor made inside `scope(fn)` is freed when the scope ends, unless `fn` returns it; nested scopes
 * hand their results to the scope around them. Outside every scope the garbage collector frees a tensor that the
 * program has dropped, some time later.
 */
import { checkFunction } from '../arguments/kinds.ts';
import { ownerOf, release, type Storage } from './storage.ts';

/** What a scope can free; a tensor. */
export interface Disposable {
  readonly storage: Storage;
  dispose(): void;
}

/** The open scopes, the innermost last, each with the live tensors made in it. */
const scopes: Set<Disposable>[] = [];

/** Frees the storages of tensors outside of every scope once the garbage collector has found them. */
const registry = new FinalizationRegistry<Storage>((storage) => {
  ownerOf(storage).reportExternalMemory(storage, -1);
  release(storage);
});

/** Enters a new tensor into the innermost scope; without one, the garbage collector is to free it. */
export function track(tensor: Disposable): void {
  const innermost = scopes.at(-1);
  if (innermost) innermost.add(tensor);
  else register(tensor);
}

/** Takes a tensor out of its scope or out of the registry: it was freed, or something else owns it. */
export function untrack(tensor: Disposable): void {
  for (let i = scopes.length - 1; i >= 0; i--) if (scopes[i].delete(tensor)) return;
  if (registry.unregister(tensor)) ownerOf(tensor.storage).reportExternalMemory(tensor.storage, -1);
}

/** Takes a tensor out of its scope: it lives as long as what refers to it, such as a module's parameter. */
export function adopt(tensor: Disposable): void {
  untrack(tensor);
  register(tensor);
}

function register(tensor: Disposable): void {
  registry.register(tensor, tensor.storage, tensor);
  ownerOf(tensor.storage).reportExternalMemory(tensor.storage, 1);
}

/**
 * Runs `fn` and frees every tensor made inside that its result does not hold. The result may be a tensor or nested
 * arrays, maps and plain objects of tensors.
 * @throws TypeError when `fn` returns a promise: tensors made after an `await` would escape the scope.
 * @returns what `fn` returned.
 */
export function scope<T>(fn: () => T): T {
  checkFunction('scope', fn);
  const own = new Set<Disposable>();
  scopes.push(own);
  let kept: ReadonlySet<unknown> | undefined;
  try {
    const result = fn();
    if (typeof (result as { then?: unknown } | undefined)?.then === 'function') {
      throw new TypeError(
        'scope: expected a plain result, got a promise; await inside would escape the scope',
      );
    }
    kept = collect(result, new Set());
    return result;
  } finally {
    for (const tensor of own) if (!kept?.has(tensor)) tensor.dispose();
    scopes.pop();
    for (const tensor of own) track(tensor);
  }
}

function collect(value: unknown, into: Set<unknown>): Set<unknown> {
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
