/**
 * The messages between a page and its worker. Each call has a MessageChannel of its own: the call itself goes
 * to the worker with one port, and all that follows goes through the channel, in order.
 */
export const CALL = 'gqa/worker call';

/** The message that starts a call; `port` is the worker's end of the channel. */
export interface CallMessage {
  readonly kind: typeof CALL;
  readonly name: string;
  /** The arguments, with `undefined` in the places of `links`. */
  readonly args: unknown[];
  readonly links: readonly Link[];
  readonly port: MessagePort;
}

/** A function or an AbortSignal among the arguments, or in an object among them. Neither can be cloned. */
export interface Link {
  readonly kind: 'function' | 'signal';
  readonly argument: number;
  /** Undefined for an argument itself. */
  readonly property?: string;
}

/** What the page sends through the channel: a step of the generator, or that signal `abort` has aborted. */
export type Request =
  | { readonly step: 'next' | 'return' }
  | { readonly abort: number; readonly reason: Thrown };

/** What the worker sends: the answer to the call or to a step, or a call of function `callback`. */
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
