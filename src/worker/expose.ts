/** The worker's side: runs the functions that a page calls. */
import { checkObject } from '../arguments/kinds.ts';
import {
  CALL,
  type CallMessage,
  fromThrown,
  type Link,
  type Reply,
  type Request,
  toThrown,
  transfersOf,
} from './message.ts';

/** Functions by the name that a page calls them by. */
// biome-ignore lint/suspicious/noExplicitAny: functions of any parameters
export type ExposedFunctions = Readonly<Record<string, (...args: any[]) => unknown>>;

/**
 * Lets the page that started this worker call `functions` by `connect`. Call it when the worker's script
 * starts, before any `await`: earlier calls are lost.
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
  from.addEventListener('message', ({ data }: MessageEvent) => {
    if (data?.kind === CALL) void answer(functions, data);
  });
  from.start?.();
}

interface Listener {
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

async function answer(functions: ExposedFunctions, call: CallMessage): Promise<void> {
  const { name, port } = call;
  const send = (reply: Reply, ...values: unknown[]) => port.postMessage(reply, transfersOf(...values));
  /** Sends the outcome of `run`, and whether the page may ask for more. */
  async function reply(run: () => Promise<Exclude<Reply, { callback: number }>>): Promise<void> {
    try {
      const outcome = await run();
      send(outcome, 'value' in outcome ? outcome.value : undefined);
    } catch (error) {
      send({ thrown: toThrown(error) });
    }
  }
  const aborts = new Map<number, AbortController>();
  let stream: AsyncGenerator | undefined;
  port.addEventListener('message', ({ data }: MessageEvent<Request>) => {
    if ('abort' in data) aborts.get(data.abort)?.abort(fromThrown(data.reason));
    else {
      void reply(async () => {
        const { value, done } = await stream![data.step](undefined);
        return { value, done };
      });
    }
  });
  port.start();
  call.links.forEach((link, index) => {
    if (link.kind === 'signal') aborts.set(index, new AbortController());
    const callback = (...args: unknown[]) => send({ callback: index, args }, ...args);
    put(call.args, link, aborts.get(index)?.signal ?? callback);
  });
  await reply(async () => {
    if (!Object.hasOwn(functions, name)) {
      throw new Error(`connect: expected one of ${Object.keys(functions).join(', ')}, got a call of ${name}`);
    }
    const result = await functions[name](...call.args);
    if (typeof (result as AsyncIterable<unknown> | undefined)?.[Symbol.asyncIterator] !== 'function') {
      return { value: result };
    }
    stream = oneByOne(result as AsyncIterable<unknown>);
    return { value: undefined, isStream: true };
  });
}

/** An async generator takes its steps in order, which other async iterables need not. */
async function* oneByOne(values: AsyncIterable<unknown>): AsyncGenerator {
  return yield* values;
}

function put(args: unknown[], { argument, property }: Link, value: unknown): void {
  if (property === undefined) args[argument] = value;
  else (args[argument] as Record<string, unknown>)[property] = value;
}
