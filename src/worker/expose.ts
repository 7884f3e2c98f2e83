/** The worker's side: runs the functions that a page calls. */
import { checkObject, describe } from '../arguments/kinds.ts';
import {
  CALL,
  type CallMessage,
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

/** Functions by the name that a page calls them by. */
// biome-ignore lint/suspicious/noExplicitAny: functions of any parameters
export type ExposedFunctions = Readonly<Record<string, (...args: any[]) => unknown>>;

/**
 * Lets the page that started this worker call `functions` by `connect`. Call it once. Calls that
 * come earlier wait for it.
 *
 * Arguments and results are structured clones: plain data, typed arrays, `File`s, not tensors and models. Keep
 * those in the worker, and return `await tensor.data()`. An async iterable that is returned, such as that of
 * `generateText`, is read by the page step by step.
 * @param functions an object of functions, async or not
 * @param port where the calls come from; default: the page, or in Node the thread that started this one
 * @throws TypeError unless `functions` is an object; Error outside of a worker when no port is given
 * @example
 * import { generateText, loadModel, type Model } from 'gqa/models';
 * import { expose } from 'gqa/worker';
 *
 * let model: Model;
 * const functions = {
 *   async load(file: string) {
 *     model = await loadModel(file);
 *   },
 *   answer: (text: string, options: { signal?: AbortSignal }) => generateText(model, text, options),
 * };
 * export type Functions = typeof functions;
 * expose(functions);
 */
export function expose(functions: ExposedFunctions, port?: Listener): void {
  checkObject('expose', 'an object of functions', functions);
  const from = port ?? thisWorker();
  const lock = lifelongLock();
  const tellReady = async () => from.postMessage([READY, await lock] satisfies ReadyMessage);
  from.addEventListener('message', ({ data, ports }: MessageEvent) => {
    if (data === HELLO) tellReady();
    if (data === CALL) serve(functions, ports[0]);
  });
  from.start?.();
  tellReady();
}

/**
 * Takes a lock of the browser that is free again when this worker has ended, however it ends: a browser need
 * not tell a page that.
 * @returns its name; undefined in Node, where message ports tell it, and in pages without locks (of `http:`)
 */
async function lifelongLock(): Promise<string | undefined> {
  const { navigator, process } = globalThis;
  const locks = process?.getBuiltinModule === undefined ? navigator?.locks : undefined;
  if (locks === undefined) return undefined;
  const name = `gqa/worker ${crypto.randomUUID()}`;
  return new Promise((resolve) => {
    const hold = () => {
      resolve(name);
      return new Promise<never>(() => {});
    };
    locks.request(name, hold).catch(() => resolve(undefined));
  });
}

interface Listener {
  postMessage(message: unknown): void;
  addEventListener(type: 'message', listener: (event: MessageEvent) => void): void;
  start?(): void;
}

/** Node's workers have a `parentPort`, those of all other hosts are themselves the port. */
function thisWorker(): Listener {
  const { self, process } = globalThis;
  const parent = process?.getBuiltinModule?.('node:worker_threads').parentPort;
  if (parent) return parent as unknown as Listener;
  if (typeof self?.addEventListener === 'function' && typeof document === 'undefined') return self;
  throw new Error('expose: expected a worker to call it, or a port, got neither');
}

/** Runs one call and sends what comes of it. */
function serve(functions: ExposedFunctions, port: MessagePort): void {
  const aborts = new Map<number, AbortController>();
  let stream: AsyncGenerator | undefined;
  const send = (reply: Reply, ...values: unknown[]) => port.postMessage(reply, transfersOf(...values));

  async function run({ name, args, links }: CallMessage): Promise<Outcome> {
    for (const [index, link] of links.entries()) {
      if (link.kind === 'signal') aborts.set(index, new AbortController());
      const callback = (...values: unknown[]) => send({ callback: index, args: values }, ...values);
      put(args, link, aborts.get(index)?.signal ?? callback);
    }
    if (!Object.hasOwn(functions, name)) {
      throw new Error(`connect: expected one of ${Object.keys(functions).join(', ')}, got a call of ${name}`);
    }
    const value = await functions[name](...args);
    if (!isAsyncIterable(value)) return { value: cloneable(name, value) };
    stream = oneByOne(name, value);
    return { value: undefined, isStream: true };
  }

  port.addEventListener('message', async ({ data }: MessageEvent<Request>) => {
    if ('abort' in data) {
      aborts.get(data.abort)?.abort(fromThrown(data.reason));
      return;
    }
    try {
      const outcome: Outcome = await ('name' in data ? run(data) : stream![data.step](undefined));
      send({ ...outcome }, outcome.value);
    } catch (error) {
      send({ thrown: toThrown(error) });
    }
  });
  port.start();
}

type Outcome = Extract<Reply, { value: unknown }>;

/** An async generator takes its steps in order, which other async iterables need not. */
async function* oneByOne(name: string, values: AsyncIterable<unknown>): AsyncGenerator {
  for await (const value of values) yield cloneable(name, value);
}

/** @throws TypeError for a tensor, a model or another object with resources: its clone would be empty */
function cloneable(name: string, value: unknown): unknown {
  if (typeof (value as { dispose?: unknown } | undefined | null)?.dispose !== 'function') return value;
  throw new TypeError(
    `connect: expected ${name} to return data, got ${describe(value)}; keep it in the worker, and return such as await tensor.data()`,
  );
}

function put(args: unknown[], { argument, property }: Link, value: unknown): void {
  if (property === undefined) args[argument] = value;
  else (args[argument] as Record<string, unknown>)[property] = value;
}
