/** Calls between a page and a worker, over a channel in one thread and to a thread of its own. */
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { FormatError } from '../../src/format/format-error.ts';
import { connect, expose, type Remote, transfer } from '../../src/worker/index.ts';

const log: string[] = [];

const functions = {
  add: (a: number, b: number) => a + b,
  later: async (text: string) => `${text}!`,
  fill: (values: Float32Array) => transfer(values.fill(3), [values.buffer]),
  fail: async (kind: string) => {
    if (kind === 'range') throw new RangeError('fail: expected 1, got 2', { cause: new Error('inner') });
    if (kind === 'format') throw new FormatError('x.gguf', 3, 'no');
    throw kind;
  },
  unclonable: () => ({ method() {} }),
  disposable: () => ({ dispose() {} }),
  async *count(to: number, { failAt }: { failAt?: number } = {}) {
    try {
      for (let i = 0; i < to; i++) {
        if (i === failAt) throw new TypeError(`count: expected less than ${failAt}`);
        log.push(`made ${i}`);
        yield i;
      }
    } finally {
      log.push('closed');
    }
  },
  counted: async (to: number) => functions.count(to),
  until: ({ signal }: { signal: AbortSignal }) =>
    new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
  withProgress: (steps: number, onProgress: (step: number, of: number) => void) => {
    for (let i = 1; i <= steps; i++) onProgress(i, steps);
    return 'done';
  },
  withOption: ({ onProgress }: { onProgress: (step: number) => void }) => onProgress(7),
};

let remote: Remote<typeof functions>;
let channel: MessageChannel;
beforeEach(() => {
  channel = new MessageChannel();
  log.length = 0;
  expose(functions, channel.port1);
  remote = connect<typeof functions>(channel.port2);
});
afterEach(() => channel.port1.close());

async function collect<T>(values: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const value of values) items.push(value);
  return items;
}

describe('a call', () => {
  test('resolves to the result, of several at a time to each its own', async () => {
    expect(await Promise.all([remote.add(2, 3), remote.later('a'), remote.add(5, 7)])).toEqual([5, 'a!', 12]);
  });

  test('throws the error of the worker with name, message, stack and cause', async () => {
    const error = await remote.fail('range').catch((thrown) => thrown);
    expect(error).toBeInstanceOf(RangeError);
    expect(error).toMatchObject({ message: 'fail: expected 1, got 2', cause: { message: 'inner' } });
    expect(error.stack).toContain('worker.test.ts');
    const format = await remote.fail('format').catch((thrown) => thrown);
    expect(format).toBeInstanceOf(Error);
    expect(format.name).toBe('FormatError');
    await expect(remote.fail('a string')).rejects.toBe('a string');
  });

  test('of no function names those that there are', async () => {
    const wrong = remote as unknown as { toString(): Promise<string> };
    await expect(wrong.toString()).rejects.toThrow(
      /^connect: expected one of add, later, .*, got a call of toString$/,
    );
  });

  test('rejects arguments and results that cannot be cloned', async () => {
    await expect(remote.add(Symbol('no') as never, 1)).rejects.toMatchObject({ name: 'DataCloneError' });
    await expect(remote.unclonable()).rejects.toMatchObject({ name: 'DataCloneError' });
    await expect(remote.disposable()).rejects.toThrow('connect: expected disposable to return data');
  });

  test('moves what is marked by transfer, both ways', async () => {
    const values = new Float32Array(4);
    const filled = await remote.fill(transfer(values, [values.buffer]));
    expect(values.length).toBe(0);
    expect([...filled]).toEqual([3, 3, 3, 3]);
  });

  test('calls functions among its arguments', async () => {
    const steps: string[] = [];
    expect(await remote.withProgress(3, (step, of) => steps.push(`${step}/${of}`))).toBe('done');
    await remote.withOption({ onProgress: (step) => steps.push(`${step}`) });
    expect(steps).toEqual(['1/3', '2/3', '3/3', '7']);
  });

  test('passes an abort on, and does not start with an aborted signal', async () => {
    const controller = new AbortController();
    const pending = remote.until({ signal: controller.signal });
    setTimeout(() => controller.abort(), 5);
    await expect(pending).rejects.toMatchObject({ name: 'AbortError' });
    const reason = new Error('before');
    await expect(remote.until({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });
});

describe('a generator', () => {
  test('gives its values, also of an async function and after await', async () => {
    expect(await collect(remote.count(3))).toEqual([0, 1, 2]);
    expect(await collect(remote.counted(2))).toEqual([0, 1]);
    expect(await collect(await remote.count(2))).toEqual([0, 1]);
    expect(await collect(remote.count(0))).toEqual([]);
  });

  test('makes a value when it is asked for, and is closed when the loop is left', async () => {
    for await (const value of remote.count(100)) {
      if (value === 2) break;
    }
    expect(log).toEqual(['made 0', 'made 1', 'made 2', 'closed']);
    await expect(
      (async () => {
        for await (const _ of remote.count(100)) throw new Error('of the page');
      })(),
    ).rejects.toThrow('of the page');
    expect(log.at(-1)).toBe('closed');
    const values = remote.count(9);
    expect(await values.next()).toEqual({ value: 0, done: false });
    expect(await values.return()).toEqual({ value: undefined, done: true });
    expect(log.at(-1)).toBe('closed');
  });

  test('throws the error of the worker', async () => {
    const values: number[] = [];
    await expect(
      (async () => {
        for await (const value of remote.count(9, { failAt: 2 })) values.push(value);
      })(),
    ).rejects.toThrow(new TypeError('count: expected less than 2'));
    expect(values).toEqual([0, 1]);
  });

  test('is expected where a loop reads it', async () => {
    const loop = collect(remote.add(1, 2) as unknown as AsyncIterable<number>);
    await expect(loop).rejects.toThrow('connect: expected add to return an async iterable, got 3');
  });
});

test('calls wait until the worker exposes its functions, also those before and after', async () => {
  const late = new MessageChannel();
  const early = connect<typeof functions>(late.port2);
  const sum = early.add(1, 2);
  await new Promise((resolve) => setTimeout(resolve, 5));
  expose(functions, late.port1);
  expect(await sum).toBe(3);
  expect(await connect<typeof functions>(late.port2).add(2, 2)).toBe(4);
  late.port1.close();
});

describe('in a thread', () => {
  const start = (code: string) =>
    new Worker(
      `import(${JSON.stringify(new URL('../../dist/worker/index.js', import.meta.url))}).then(({ expose }) => {${code}});`,
      { eval: true },
    );

  test('calls, generators and errors work, and the end of the thread rejects pending calls', async () => {
    const worker = start(`expose({
      add: (a, b) => a + b,
      async *count() { for (let i = 0; ; i++) yield i; },
      never: () => new Promise(() => {}),
      fail: () => { throw new RangeError('no'); },
    })`);
    const thread = connect<{
      add(a: number, b: number): number;
      count(): AsyncGenerator<number>;
      never(): Promise<void>;
      fail(): void;
    }>(worker);
    expect(await thread.add(2, 3)).toBe(5);
    for await (const value of thread.count()) if (value === 3) break;
    await expect(thread.fail()).rejects.toThrow(new RangeError('no'));
    const never = thread.never();
    const stream = thread.count();
    await stream.next();
    const ended = [
      expect(never).rejects.toThrow('connect: the worker ended during never'),
      expect(stream.next().then(() => stream.next())).rejects.toThrow('the worker ended during count'),
    ];
    await worker.terminate();
    await Promise.all(ended);
  });
});

test('wrong arguments are refused', () => {
  expect(() => expose(3 as never)).toThrow('expose: expected an object of functions, got 3');
  expect(() => expose({})).toThrow('expose: expected a worker to call it, or a port, got neither');
  expect(() => connect({} as never)).toThrow('connect: expected a worker or a port, got Object');
});
