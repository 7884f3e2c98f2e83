/**
 * The messages between a page and its worker. Each call has a MessageChannel of its own, which holds all that
 * is said about it, in order. A browser drops messages to a worker whose script has not finished its first
 * `await`, so the worker says that it is ready, and only then the page sends it the channels' ends.
 */

/** From the page: asks for READY, for the case that it was sent before. */
export const HELLO = 'gqa/worker hello';
/** From the worker: `[READY, lock]`, where `lock` is the name of a lock that it holds until it ends. */
export const READY = 'gqa/worker ready';
export type ReadyMessage = readonly [typeof READY, lock: string | undefined];
/** From the page, with the worker's end of the channel of a call. */
export const CALL = 'gqa/worker call';

/** The first message of a channel. */
export interface CallMessage {
  readonly name: string;
  /** The arguments, with `undefined` in the places of `links`. */
  readonly args: unknown[];
  readonly links: readonly Link[];
}

/** A function or an AbortSignal among the arguments, or in an object among them. Neither can be cloned. */
export interface Link {
  readonly kind: 'function' | 'signal';
  readonly argument: number;
  /** Undefined for an argument itself. */
  readonly property?: string;
}

/** What the page sends: the call, a step of the generator, or that the signal `links[abort]` has aborted. */
export type Request =
  | CallMessage
  | { readonly step: 'next' | 'return' }
  | { readonly abort: number; readonly reason: Thrown };

/** What the worker sends: the answer to the call or to a step, or a call of the function `links[callback]`. */
export type Reply =
  | { readonly value: unknown; readonly isStream?: boolean; readonly done?: boolean }
  | { readonly thrown: Thrown }
  | { readonly callback: number; readonly args: unknown[] };

/** A thrown value. The structured clone of an Error loses its name, unless it is a standard one. */
export type Thrown =
  | { readonly value: unknown }
  | { readonly name: string; readonly message: string; readonly stack?: string; readonly cause?: Thrown };

export function toThrown(value: unknown): Thrown {
  if (!(value instanceof Error)) return { value };
  const { name, message, stack, cause } = value;
  return { name, message, stack, cause: cause === undefined ? undefined : toThrown(cause) };
}

/** The error again, of its own class where that is a standard one such as RangeError. */
export function fromThrown(thrown: Thrown): unknown {
  if ('value' in thrown) return thrown.value;
  const { name, message, stack, cause } = thrown;
  const known = (globalThis as unknown as Record<string, ErrorConstructor | undefined>)[name];
  const isError = typeof known === 'function' && known.prototype instanceof Error && known.length < 2;
  const options = cause === undefined ? undefined : { cause: fromThrown(cause) };
  const error = new (isError ? known : Error)(message, options);
  for (const [key, value] of Object.entries({ name, stack })) {
    Object.defineProperty(error, key, { value, configurable: true, writable: true });
  }
  return error;
}

const transfers = new WeakMap<object, Transferable[]>();

/**
 * Marks what is to be moved to the other side instead of copied, such as the buffer of a large array. It is
 * empty here afterwards.
 * @param value an argument of a call, or what an exposed function returns or yields
 * @param objects the objects in `value` that are moved
 * @returns `value`
 * @example
 * import { transfer } from 'gqa/worker';
 * const logits = new Float32Array(50_000);
 * const moved = transfer(logits, [logits.buffer]); // as an argument or a result
 */
export function transfer<T extends object>(value: T, objects: Transferable[]): T {
  transfers.set(value, objects);
  return value;
}

/** The objects to move with these values. */
export function transfersOf(...values: readonly unknown[]): Transferable[] {
  return values.flatMap((value) => transfers.get(value as object) ?? []);
}

export function isAsyncIterable(value: unknown): value is AsyncIterable<unknown> {
  return typeof (value as AsyncIterable<unknown> | undefined)?.[Symbol.asyncIterator] === 'function';
}
