/** The page's side: a proxy whose methods call the functions that a worker exposes. */
import { describe } from '../arguments/kinds.ts';
import type { ExposedFunctions } from './expose.ts';
import {
  CALL,
  fromThrown,
  HELLO,
  isAsyncIterable,
  type Link,
  READY,
  type ReadyMessage,
  type Reply,
  type Request,
  toThrown,
  transfersOf,
} from './message.ts';

/** The functions of a worker as the page calls them. */
export type Remote<Functions> = {
  readonly [Name in keyof Functions]: Functions[Name] extends (...args: infer Args) => infer Result
    ? (...args: Args) => RemoteResult<Awaited<Result>>
    : never;
};

/** An async generator for a function that returns an async iterable, otherwise a promise. */
export type RemoteResult<Result> = [Result] extends [never]
  ? Promise<never>
  : Result extends AsyncIterable<infer Item>
    ? AsyncGenerator<Item, void, undefined>
    : Promise<Result>;

/**
 * Gives the functions that a worker has passed to `expose`. They start when they are called.
 *
 * Arguments are structured clones; `transfer` moves instead of copying. Functions and `AbortSignal`s work as
 * arguments, and as properties of an object that is one. Such a function is called without waiting for it,
 * and its result is dropped.
 *
 * The values of an async iterable come one at a time, when the loop asks for them; leaving the loop ends
 * the worker's generator. What the worker throws is thrown here, with its name, message, stack and cause; test
 * `error.name`, since classes such as FormatError arrive as Error. When the worker ends, pending calls and
 * later ones are rejected; in a page that has no Web Locks, such as one of `http:`, they may wait for ever.
 * @typeParam Functions the type of the object that the worker passed to `expose`
 * @param worker a `Worker` of the browser or of `node:worker_threads`, or a `MessagePort`
 * @throws TypeError unless it has `postMessage`. A call throws what cannot be cloned as DataCloneError.
 * @example
 * import { connect } from 'gqa/worker';
 *
 * type Functions = { answer(text: string): AsyncGenerator<string> }; // import type it from the worker's file
 * const worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });
 * const engine = connect<Functions>(worker);
 * for await (const piece of engine.answer('The capital of France is')) console.log(piece);
 */
export function connect<Functions extends ExposedFunctions>(worker: Sender): Remote<Functions> {
  if (typeof worker?.postMessage !== 'function') {
    throw new TypeError(`connect: expected a worker or a port, got ${describe(worker)}`);
  }
  /** What rejects each pending call, and the name of its function. */
  const pending: Pending = new Map();
  let hasEnded = false;
  const end = () => {
    hasEnded = true;
    for (const [fail, name] of pending) fail(endedDuring(name));
  };
  const ready = new Promise<void>((resolve, reject) => {
    worker.addEventListener?.('error', ({ message }) => {
      const error = new Error(`connect: the worker failed: ${message || 'its script did not load'}`);
      reject(error);
      for (const fail of pending.keys()) fail(error);
    });
    worker.addEventListener?.('message', ({ data }) => {
      if (data?.[0] !== READY) return;
      const [, lock] = data as ReadyMessage;
      if (lock !== undefined) navigator.locks.request(lock, end).catch(() => {});
      resolve();
    });
    worker.start?.();
    worker.postMessage(HELLO, []);
    // Node's Worker, which has no such method, keeps messages until its script takes them.
    if (worker.addEventListener === undefined) resolve();
  });
  ready.catch(() => {}); // it rejects each call
  return new Proxy({} as Remote<Functions>, {
    get(_, name) {
      // A proxy with a method `then` would be taken for a promise.
      if (typeof name !== 'string' || name === 'then') return undefined;
      return (...args: unknown[]) => {
        const { port1, port2 } = new MessageChannel();
        const { result, fail } = start(port1, pending, name, args);
        const send = () => {
          if (hasEnded) throw endedDuring(name);
          worker.postMessage(CALL, [port2]);
        };
        ready.then(send).catch(fail);
        return result;
      };
    },
  });
}

/** A `Worker` or `MessagePort` of a browser or of Node, whose types differ. */
interface Sender {
  // biome-ignore lint/suspicious/noExplicitAny: see above
  postMessage(message: unknown, transfer: any[]): void;
  // biome-ignore lint/suspicious/noExplicitAny: see above
  addEventListener?(type: string, listener: (event: any) => void): void;
  start?(): void;
}

type Pending = Map<(error: unknown) => void, string>;

const endedDuring = (name: string) => new Error(`connect: the worker ended during ${name}`);

/** Calls one function. The result is a promise and an async generator in one: the reply tells which. */
function start(port: MessagePort, pending: Pending, name: string, given: readonly unknown[]) {
  const { args, links, values } = takeLinks(given);
  const ended = new AbortController();
  // The page asks for one thing at a time, so one reply is awaited at most.
  let settle = { resolve: (_: Answer) => {}, reject: (_: unknown) => {} };
  const ask = (request: Request) =>
    new Promise<Answer>((resolve, reject) => {
      settle = { resolve, reject };
      port.postMessage(request, 'name' in request ? transfersOf(...given) : []);
    });
  const end = () => {
    pending.delete(fail);
    ended.abort();
    port.close();
  };
  const fail = (error: unknown) => {
    end();
    settle.reject(error);
  };
  pending.set(fail, name);
  port.addEventListener('message', ({ data }: MessageEvent<Reply>) => {
    if ('callback' in data) (values[data.callback] as (...args: unknown[]) => void)(...data.args);
    else if ('thrown' in data) fail(fromThrown(data.thrown));
    else {
      if (data.done ?? !data.isStream) end();
      settle.resolve(data);
    }
  });
  port.addEventListener('close', () => fail(endedDuring(name)));
  port.start();

  async function call(): Promise<unknown> {
    try {
      for (const [index, value] of values.entries()) {
        if (!(value instanceof AbortSignal)) continue;
        value.throwIfAborted();
        const abort = () =>
          port.postMessage({ abort: index, reason: toThrown(value.reason) } satisfies Request);
        value.addEventListener('abort', abort, { signal: ended.signal });
      }
      const { value, isStream } = await ask({ name, args, links });
      return isStream ? steps() : value;
    } catch (error) {
      end();
      throw error;
    }
  }
  async function* steps(): AsyncGenerator<unknown, void, undefined> {
    try {
      for (;;) {
        const { value, done } = await ask({ step: 'next' });
        if (done) return;
        yield value;
      }
    } finally {
      if (!ended.signal.aborted) await ask({ step: 'return' });
    }
  }
  const result = call();
  async function* stream(): AsyncGenerator<unknown, void, undefined> {
    const values = await result;
    if (isAsyncIterable(values)) yield* values;
    else
      throw new TypeError(`connect: expected ${name} to return an async iterable, got ${describe(values)}`);
  }
  const both = Object.assign(stream(), {
    // biome-ignore lint/suspicious/noThenProperty: it is a promise too
    then: result.then.bind(result),
    catch: result.catch.bind(result),
    finally: result.finally.bind(result),
  });
  return { result: both, fail };
}

type Answer = Extract<Reply, { value: unknown }>;

/** Takes the functions and signals out of the arguments, and out of plain objects among them. */
function takeLinks(given: readonly unknown[]) {
  const links: Link[] = [];
  const values: unknown[] = [];
  const take = (value: unknown, argument: number, property?: string) => {
    const kind =
      typeof value === 'function' ? 'function' : value instanceof AbortSignal ? 'signal' : undefined;
    if (kind === undefined) return value;
    links.push({ kind, argument, property });
    values.push(value);
    return undefined;
  };
  const rest = given.map((value, argument) => {
    if (typeof value !== 'object' || value === null || Object.getPrototypeOf(value) !== Object.prototype) {
      return take(value, argument);
    }
    return Object.fromEntries(
      Object.entries(value).map(([property, inner]) => [property, take(inner, argument, property)]),
    );
  });
  return { args: rest, links, values };
}
