/**
 * Lifetimes. A tensor made inside `scope(fn)` is freed when the scope ends, unless `fn` returns it; the
 * result of a nested scope belongs to the outer scope. Outside all scopes the garbage collector frees
 * unreachable tensors.
 */
import { checkFunction } from '../arguments/kinds.ts';
import { isShared, ownerOf, release, type Storage } from './storage.ts';
import { countUnfreed } from './unfreed-bytes.ts';

/** An object that a scope can free: a tensor. */
export interface Disposable {
  readonly storage: Storage;
  dispose(): void;
}

/** The open scopes, the innermost last, each with the live tensors made in it. */
const scopes: Set<Disposable>[] = [];

/** Outside all scopes: tensors freed together, when the garbage collector finds none of them reachable. */
interface Registration {
  readonly storages: Storage[];
}
const registrations = new WeakMap<Disposable, Registration>();
const registry = new FinalizationRegistry<Storage[]>((storages) => {
  for (const storage of storages) {
    ownerOf(storage).reportExternalMemory(storage, -1);
    release(storage);
  }
});

/** Adds a new tensor to the innermost scope, or registers it with the garbage collector. */
export function track(tensor: Disposable): void {
  const innermost = scopes.at(-1);
  if (innermost) innermost.add(tensor);
  else {
    register([tensor]);
    // A reshape holds no memory of its own.
    if (!isShared(tensor.storage)) countUnfreed(tensor.storage.byteLength);
  }
}

/** Removes a tensor from its scope or registration: it was freed, or has another owner. */
export function untrack(tensor: Disposable): void {
  for (let i = scopes.length - 1; i >= 0; i--) if (scopes[i].delete(tensor)) return;
  const registration = registrations.get(tensor);
  if (!registration) return;
  registrations.delete(tensor);
  const { storage } = tensor;
  const { storages } = registration;
  storages.splice(storages.indexOf(storage), 1);
  ownerOf(storage).reportExternalMemory(storage, -1);
  if (!isShared(storage)) countUnfreed(-storage.byteLength);
  if (storages.length === 0) registry.unregister(registration);
}

/** Removes a tensor from its scope: it lives as long as it is reachable, such as a module's parameter. */
export function adopt(tensor: Disposable): void {
  untrack(tensor);
  register([tensor]);
}

function register(tensors: readonly Disposable[]): void {
  const storages = tensors.map(({ storage }) => storage);
  const registration = { storages };
  registry.register(registration, storages, registration);
  for (const tensor of tensors) {
    registrations.set(tensor, registration);
    ownerOf(tensor.storage).reportExternalMemory(tensor.storage, 1);
  }
}

/**
 * Runs `fn` and frees all tensors made inside, except those in its result. The result may be a tensor or
 * nested arrays, maps and plain objects of tensors.
 * @throws TypeError when `fn` returns a promise: tensors made after an `await` would escape the scope.
 * @returns what `fn` returned.
 * @example const norm = scope(() => sqrt(sum(mul(x, x)))); // the product and the sum are freed
 */
export function scope<T>(fn: () => T): T {
  checkFunction('scope', fn);
  return runScope(fn, (kept) => kept.forEach(track));
}

/**
 * `scope` for a result of many tensors that are freed together, such as gradients. Outside all scopes they
 * share one registration with the garbage collector: one for each would fill V8's old generation.
 */
export function groupScope<T>(fn: () => T): T {
  return runScope(fn, (kept) => (scopes.length > 0 ? kept.forEach(track) : register([...kept])));
}

function runScope<T>(fn: () => T, handOn: (kept: ReadonlySet<Disposable>) => void): T {
  const own = new Set<Disposable>();
  scopes.push(own);
  let kept: ReadonlySet<unknown> | undefined;
  try {
    const result = fn();
    if (typeof (result as { then?: unknown } | undefined)?.then === 'function') {
      throw new TypeError(
        'scope: expected a synchronous function, got a promise; tensors made after an await would escape the scope',
      );
    }
    kept = collect(result, new Set());
    return result;
  } finally {
    for (const tensor of own) if (!kept?.has(tensor)) tensor.dispose();
    scopes.pop();
    handOn(own);
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
