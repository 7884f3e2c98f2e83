/** Models from addresses: servers with and without ranges, their faults, tokens, the hub, and the cache. */
import { EventEmitter, once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { inspect } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import {
  clearModelCache,
  FormatError,
  MemoryFolder,
  type ModelSource,
  modelCacheSize,
} from '../../src/checkpoint/index.ts';
import { convertCheckpoint } from '../../src/convert/index.ts';
import { NodeFolder } from '../../src/files/node-folder.ts';
import { UrlFolder } from '../../src/files/url-folder.ts';
import { setBackend } from '../../src/index.ts';
import { type LoadModelOptions, loadModel, saveModel } from '../../src/models/index.ts';
import { readModelShape } from '../../src/plan/index.ts';
import { removeCheckpoints, tinyGguf } from '../models/checkpoints.ts';
import { FakeDirectory } from './fake-directory.ts';
import { serve, withModelServer } from './model-server.ts';

const DEMO = fileURLToPath(new URL('../../demo/model/', import.meta.url));
const SHARDED = fileURLToPath(new URL('../golden/tiny-llama/sharded/', import.meta.url));
const prompt = [[5, 9, 3, 17, 20]];
let files: Record<string, Uint8Array>;
let gguf: Uint8Array;
let ggufPath: string;

beforeAll(async () => {
  await setBackend('native').catch(() => setBackend('wasm'));
  ggufPath = await tinyGguf('gqa-tied');
  gguf = readFileSync(ggufPath);
  const inFolder = (path: string, at: string) =>
    readdirSync(path).map((name) => [`${at}${name}`, readFileSync(join(path, name))] as const);
  files = {
    '/m.gguf': gguf,
    '/cut.gguf': gguf.subarray(0, gguf.length - 9000),
    ...Object.fromEntries([...inFolder(DEMO, '/demo/'), ...inFolder(SHARDED, '/sharded/')]),
    ...Object.fromEntries(inFolder(DEMO, '/org/name/resolve/main/')),
  };
});
afterAll(removeCheckpoints);
afterEach(() => {
  vi.unstubAllEnvs();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

async function logitsOf(source: ModelSource, options: LoadModelOptions = {}): Promise<number[]> {
  const model = await loadModel(source, options);
  try {
    return Array.from(model.forward(prompt).dataSync());
  } finally {
    model.dispose();
  }
}

describe.each([
  ['ranges', {}],
  ['whole files', { ranges: false }],
  ['whole files without length', { ranges: false, length: false }],
  ['compressed files', { ranges: false, gzip: true }],
])('a server with %s', (kind, options) => {
  test('a GGUF file, by text and URL, with progress', async () => {
    await withModelServer(files, options, async ({ url, requests }) => {
      const seen: [number, number, string][] = [];
      const onProgress = (...args: [number, number, string]) => seen.push(args);
      expect(await logitsOf(`${url}/m.gguf`, { onProgress })).toEqual(await logitsOf(ggufPath));
      const [done, total, phase] = seen.at(-1)!;
      expect([done, phase]).toEqual([total, 'loading']);
      // Header and weights: no tensor has a request of its own.
      expect(requests.length).toBeLessThan(7);
      expect(await logitsOf(new URL(`${url}/m.gguf?download=true#x`))).toEqual(await logitsOf(ggufPath));
    });
  });

  test('a Hugging Face folder, with and without its last slash, and its weights', async () => {
    await withModelServer(files, options, async ({ url }) => {
      const expected = await logitsOf(DEMO);
      for (const path of ['/demo/', '/demo', '/demo/model.safetensors']) {
        const model = await loadModel(url + path);
        expect(Array.from(model.forward(prompt).dataSync())).toEqual(expected);
        expect(model.tokenizer?.encode('Call me')).toHaveLength(7);
        model.dispose();
      }
      expect(await logitsOf(`${url}/sharded/`)).toEqual(await logitsOf(SHARDED));
      expect(await readModelShape(`${url}/demo`)).toEqual(await readModelShape(DEMO));
    });
  });

  test('saved with the files beside it', async () => {
    await withModelServer(files, options, async ({ url }) => {
      const model = await loadModel(`${url}/demo/`);
      const folder = new MemoryFolder('out');
      await saveModel(folder, model);
      expect((await folder.list()).map(({ name }) => name)).toEqual(
        expect.arrayContaining([
          'config.json',
          'model.safetensors',
          'tokenizer.json',
          'tokenizer_config.json',
        ]),
      );
      model.dispose();
    });
  });

  test('converted', async () => {
    await withModelServer(files, options, async ({ url }) => {
      const to = { folder: new MemoryFolder('out'), file: 'one' };
      const { bytes } = await convertCheckpoint({ from: `${url}/demo/`, to, numKeyValueHeads: 1 });
      expect([kind, bytes]).toEqual([kind, expect.any(Number)]);
      const onDisk = { folder: new MemoryFolder('out'), file: 'one' };
      await convertCheckpoint({ from: DEMO, to: onDisk, numKeyValueHeads: 1 });
      expect(await logitsOf(to.folder.folder('one'))).toEqual(await logitsOf(onDisk.folder.folder('one')));
    });
  });
});

describe('what goes wrong', () => {
  const failure = async (url: string, options: LoadModelOptions = {}): Promise<Error> => {
    const model = await loadModel(url, options).catch((error: Error) => error);
    expect(model).toBeInstanceOf(Error);
    return model as Error;
  };

  test.each([
    ['/none.gguf', /\/none\.gguf: expected a file, got status 404$/],
    ['/cut.gguf', /\/cut\.gguf: at byte \d+: /],
    [
      '/none/',
      /\/none\/: expected model\.safetensors.*got none of them; of a GGUF model, give the address of the file$/,
    ],
    ['/..%2fm.gguf', /^http:[^ ]*: expected an address that ends with a file name, got "\.\.%2fm\.gguf"$/],
    ['/%2e%2e%2f', /expected/],
  ])('%s', async (path, message) => {
    await withModelServer(files, {}, async ({ url }) => {
      expect((await failure(url + path)).message).toMatch(message);
    });
  });

  test('a page in place of a file', async () => {
    const missing = (response: ServerResponse) => {
      response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end('<!doctype html>');
    };
    await withModelServer(files, { missing }, async ({ url }) => {
      expect((await failure(`${url}/none.gguf`)).message).toMatch(
        /none\.gguf: .*expected a model, got an HTML page/,
      );
      // What the folder lacks is answered with the page too.
      expect(await logitsOf(`${url}/demo/`)).toEqual(await logitsOf(DEMO));
    });
  });

  test('a file that is replaced between requests', async () => {
    for (const ranges of [true, false]) {
      await withModelServer(files, { ranges, etag: (request) => `"${request}"` }, async ({ url }) => {
        const error = await failure(`${url}/m.gguf`);
        expect(error).toBeInstanceOf(FormatError);
        expect(error.message).toBe(
          `${url}/m.gguf: expected the file whose header was read, got another one in its place; open it again`,
        );
      });
    }
  });

  test('weights that end too early, and a server that goes away', async () => {
    const answer = (end: boolean) => (request: IncomingMessage, response: ServerResponse) => {
      const from = Number(/=(\d+)/.exec(request.headers.range ?? '')?.[1]);
      if (from === 0) return false;
      const range = `bytes ${from}-${gguf.length - 1}/${gguf.length}`;
      response.writeHead(206, { 'content-range': range });
      response.write(gguf.subarray(from, from + 1000), () => (end ? response.end() : response.destroy()));
      return true;
    };
    await withModelServer(files, { answer: answer(true) }, async ({ url }) => {
      expect((await failure(`${url}/m.gguf`)).message).toMatch(
        /m\.gguf: at byte \d+: expected \d+ more bytes, got the end of the response$/,
      );
    });
    await withModelServer(files, { answer: answer(false) }, async ({ url }) => {
      expect((await failure(`${url}/m.gguf`)).message).toMatch(/m\.gguf: cannot be reached: /);
    });
  });

  test('status 416: an empty file, or one that became shorter', async () => {
    const refuse = (first: number) => (request: IncomingMessage, response: ServerResponse) => {
      const from = Number(/=(\d+)/.exec(request.headers.range ?? '')?.[1]);
      return from >= first && !!response.writeHead(416, { 'content-range': 'bytes */0' }).end();
    };
    await withModelServer(files, { answer: refuse(0) }, async ({ url }) => {
      expect((await failure(`${url}/m.gguf`)).message).toMatch(
        /m\.gguf: at byte 0: expected 4 bytes of GGUF magic, got 0 before the end of the file$/,
      );
    });
    await withModelServer(files, { answer: refuse(1) }, async ({ url }) => {
      expect((await failure(`${url}/m.gguf`)).message).toBe(
        `${url}/m.gguf: expected status 206 for a range request, got 416`,
      );
    });
  });

  test('a response without an end', async () => {
    let closed: Promise<unknown> | undefined;
    const answer = (_: IncomingMessage, response: ServerResponse) => {
      const write = () => {
        while (!response.destroyed && response.write(gguf));
      };
      closed = once(response, 'close');
      response.writeHead(200).on('drain', write);
      write();
      return true;
    };
    await withModelServer(files, { answer }, async ({ url }) => {
      expect((await failure(`${url}/m.gguf`)).message).toBe(
        `${url}/m.gguf: expected a server that sends ranges of the file, or its length (content-length), got a response without it of more than ${2 ** 26} bytes`,
      );
      await closed;
    });
  });

  test('ranges whose content-range a page may not see', async () => {
    const answer = (request: IncomingMessage, response: ServerResponse) => {
      const [, from, to] = /=(\d+)-(\d*)/.exec(request.headers.range ?? '') as RegExpExecArray;
      const bytes = gguf.subarray(Number(from), to === '' ? gguf.length : Number(to) + 1);
      return !!response.writeHead(206, { 'content-length': bytes.length }).end(bytes);
    };
    await withModelServer(files, { answer }, async ({ url, requests }) => {
      expect((await failure(`${url}/m.gguf`)).message).toMatch(/m\.gguf: .*got content-range none/);
      vi.stubGlobal('location', { origin: 'https://page.example' });
      requests.length = 0;
      expect(await logitsOf(`${url}/m.gguf`)).toEqual(await logitsOf(ggufPath));
      // Read whole, and not by one request for each part.
      expect(requests).toContain('/m.gguf 0-');
      expect(requests.length).toBeLessThan(7);
    });
  });

  test('redirects in a circle, and no server', async () => {
    const loop = await serve((_, response) => void response.writeHead(302, { location: '/m.gguf' }).end());
    for (const token of [undefined, 'abc']) {
      expect((await failure(`${loop.url}/m.gguf`, { token })).message).toMatch(/redirect count exceeded$/);
    }
    await loop.close();
    expect((await failure(`${loop.url}/m.gguf`)).message).toMatch(/m\.gguf: cannot be reached: /);
  });

  test('no error shows the password of a redirect', async () => {
    for (const location of ['http://u:secret@127.0.0.1:9/m', 'http://[secret', 'data:,secret']) {
      const { url, close } = await serve((_, response) => void response.writeHead(302, { location }).end());
      const error = await failure(`${url}/m.gguf`, { token: 'abc' });
      await close();
      expect(error.message).toMatch(/expected a redirect to an http\(s\) address without a password/);
      expect(inspect(error)).not.toContain('secret');
    }
  });

  test('fewer and more bytes than a response states, and a wrong 416', async () => {
    const stated = { 'content-range': `bytes 0-9/20` };
    for (const [body, got] of [
      ['short', '5'],
      ['more than ten', 'more'],
    ]) {
      const answer = (_: unknown, response: ServerResponse) =>
        response.writeHead(206, stated).end(body) !== undefined;
      await withModelServer(files, { answer }, async ({ url }) => {
        expect((await failure(`${url}/m.gguf`)).message).toBe(
          `${url}/m.gguf: expected 10 bytes, as its content-range says, got ${got}`,
        );
      });
    }
    const answer = (_: unknown, response: ServerResponse) =>
      response.writeHead(416, { 'content-range': 'bytes */20' }).end() !== undefined;
    await withModelServer(files, { answer }, async ({ url }) => {
      expect((await failure(`${url}/m.gguf`)).message).toMatch(/got 416$/);
    });
  });

  test('a signal ends the loading with its reason', async () => {
    await withModelServer(files, { answer: () => true }, async ({ url }) => {
      const reason = new Error('enough');
      const controller = new AbortController();
      setTimeout(() => controller.abort(reason), 50);
      expect(await failure(`${url}/m.gguf`, { signal: controller.signal })).toBe(reason);
      expect(await failure(`${url}/m.gguf`, { signal: AbortSignal.abort(reason) })).toBe(reason);
    });
  });

  test('in a browser, a failed request names the rule for other origins', async () => {
    vi.stubGlobal('location', { origin: 'https://page.example' });
    vi.stubGlobal('fetch', async () => {
      throw new TypeError('Failed to fetch');
    });
    expect((await failure('https://models.example/m.gguf')).message).toBe(
      'https://models.example/m.gguf: cannot be reached: Failed to fetch; the server is down, or does not allow pages of https://page.example to read it (CORS: Access-Control-Allow-Origin)',
    );
  });
});

describe('tokens', () => {
  test('go to the host of the address, and not where it redirects to', async () => {
    await withModelServer(files, {}, async (other) => {
      const own: (string | undefined)[] = [];
      const hub = await serve((request, response) => {
        own.push(request.headers.authorization);
        const location =
          request.url === '/a.gguf' ? '/b.gguf' : `${other.url.replace('127.0.0.1', 'localhost')}/m.gguf`;
        response.writeHead(302, { location }).end();
      });
      expect(await logitsOf(`${hub.url}/a.gguf`, { token: 'secret-1' })).toEqual(await logitsOf(ggufPath));
      await hub.close();
      expect(new Set(own)).toEqual(new Set(['Bearer secret-1']));
      expect(other.headers.length).toBeGreaterThan(1);
      expect(other.headers.every(({ authorization }) => authorization === undefined)).toBe(true);
    });
  });

  test('are in no error', async () => {
    const errors: unknown[] = [];
    const fail = async (loading: Promise<unknown>) =>
      errors.push(await loading.catch((error: unknown) => error));
    await withModelServer(
      files,
      { answer: (_, response) => !!response.writeHead(401).end() },
      async ({ url }) => {
        await fail(loadModel(`${url}/m.gguf`, { token: 'secret-2' }));
        await fail(loadModel(`${url}/demo/`, { token: 'secret-2' }));
        await fail(loadModel(`${url}/m.gguf?X-Signature=secret-2`));
        await fail(loadModel('https://user:secret-2@example.org/m.gguf'));
        await fail(loadModel(`${url}/m.gguf`, { token: 'secret-2\n' }));
        await fail(loadModel(`${url}/m.gguf`, { token: 5 as never }));
      },
    );
    expect(errors.every((error) => error instanceof Error)).toBe(true);
    expect(errors.map((error) => `${error} ${(error as Error).stack}`).join()).not.toContain('secret-2');
    expect(String(errors[0])).toContain('got status 401, which may need a token');
    expect(String(errors[3])).toContain('expected an address without a password in it');
  });

  test('the token of the environment is for the hub alone', async () => {
    await withModelServer(files, {}, async (hub) => {
      vi.stubEnv('HF_ENDPOINT', hub.url);
      vi.stubEnv('HF_TOKEN', 'hub-token');
      expect(await logitsOf('org/name')).toEqual(await logitsOf(DEMO));
      expect(await logitsOf(`${hub.url}/org/name/tree/main`)).toEqual(await logitsOf(DEMO));
      expect(hub.headers.every(({ authorization }) => authorization === 'Bearer hub-token')).toBe(true);
      await withModelServer(files, {}, async (other) => {
        await logitsOf(`${other.url}/m.gguf`);
        expect(other.headers.every(({ authorization }) => authorization === undefined)).toBe(true);
      });
      await expect(loadModel('org/none')).rejects.toThrow(`${hub.url}/org/none/resolve/main/`);
      vi.stubEnv('HF_TOKEN', 'a\u{1F600}b');
      await expect(loadModel('org/name')).rejects.toThrow(/HF_TOKEN: expected/);
    });
  });
});

describe('the cache', () => {
  const folder = mkdtempSync(join(tmpdir(), 'gqa-cache-'));
  afterAll(() => rmSync(folder, { recursive: true }));

  test.each([
    ['a Folder', () => new MemoryFolder('cache')],
    ['a path', () => folder],
    ['a directory handle', () => new FakeDirectory('cache')],
  ])('%s: the second time without a request', async (_, make) => {
    const cache = make();
    await withModelServer(files, {}, async ({ url, requests }) => {
      for (const [path, local] of [
        ['/m.gguf', ggufPath],
        ['/demo/', DEMO],
        ['/sharded', SHARDED],
        ['/demo/model.safetensors', DEMO],
      ]) {
        const phases = new Set<string>();
        const onProgress = (_done: number, _total: number, phase: string) => phases.add(phase);
        const expected = await logitsOf(local);
        expect(await logitsOf(url + path, { cache, onProgress })).toEqual(expected);
        const isNew = path !== '/demo/model.safetensors';
        expect([...phases]).toEqual(isNew ? ['downloading', 'loading'] : ['loading']);
        requests.length = 0;
        expect(await logitsOf(url + path, { cache })).toEqual(expected);
        expect(requests).toEqual([]);
      }
      const size = await modelCacheSize(cache);
      expect(size).toBeGreaterThan(gguf.length + files['/demo/model.safetensors'].length);
      await clearModelCache(cache);
      expect(await modelCacheSize(cache)).toBe(0);
      await logitsOf(`${url}/m.gguf`, { cache });
      expect(requests.length).toBeGreaterThan(0);
    });
  });

  test('a download that breaks leaves nothing that counts as complete', async () => {
    const cache = new MemoryFolder('cache');
    let broken = true;
    const answer = (_: unknown, response: ServerResponse) => {
      if (broken) response.destroy();
      return broken;
    };
    await withModelServer(files, { answer }, async ({ url }) => {
      await expect(loadModel(`${url}/m.gguf`, { cache })).rejects.toThrow('cannot be reached');
      broken = false;
      const controller = new AbortController();
      const onProgress = () => controller.abort(new Error('enough'));
      await expect(
        loadModel(`${url}/m.gguf`, { cache, onProgress, signal: controller.signal }),
      ).rejects.toThrow();
      expect(await logitsOf(`${url}/m.gguf`, { cache })).toEqual(await logitsOf(ggufPath));
    });
  });

  test('what is missing at first is asked for again', async () => {
    const cache = new MemoryFolder('cache');
    const growing: Record<string, Uint8Array> = {};
    await withModelServer(growing, {}, async ({ url }) => {
      await expect(loadModel(`${url}/demo/`, { cache })).rejects.toThrow();
      Object.assign(growing, files);
      expect(await logitsOf(`${url}/demo/`, { cache })).toEqual(await logitsOf(DEMO));
    });
  });

  /** A server that answers its first request when `release` is called. */
  function heldServer() {
    const events = new EventEmitter();
    const asked = once(events, 'asked');
    const released = once(events, 'released');
    let count = 0;
    const answer = (_: unknown, response: ServerResponse) => {
      if (++count > 1) return false;
      events.emit('asked');
      const end = Math.min(gguf.length, 1 << 16);
      const range = { 'content-range': `bytes 0-${end - 1}/${gguf.length}` };
      released.then(() => response.writeHead(206, range).end(gguf.subarray(0, end)));
      return true;
    };
    return { answer, asked, release: () => events.emit('released') };
  }

  test('of two processes that fill it at once, the later one keeps the file of the first', async () => {
    const cache = join(folder, 'two');
    const { answer, asked, release } = heldServer();
    vi.resetModules(); // a second copy of the module shares no downloads, as in another process
    const { CachedFolder } = await import('../../src/files/cached-folder.ts');
    await withModelServer(files, { answer }, async ({ url }) => {
      const base = new URL(`${url}/`);
      const later = new CachedFolder(new UrlFolder(base), new NodeFolder(cache), base).open('m.gguf');
      await asked; // connections of two loaders may arrive in either order
      await logitsOf(`${url}/m.gguf`, { cache });
      const kept = join(cache, readdirSync(cache)[0], 'm.gguf');
      const { ino } = statSync(kept);
      release();
      expect((await later)?.size).toBe(gguf.length);
      expect(statSync(kept).ino).toBe(ino);
    });
  });

  describe('loaders in one process', () => {
    const isWhole = (request: string) => request === `/m.gguf 0-${gguf.length - 1}`;

    test('share a download', async () => {
      const cache = new MemoryFolder('cache');
      await withModelServer(files, {}, async ({ url, requests }) => {
        const last: (readonly number[])[] = [];
        const loads = Array.from({ length: 3 }, (_, i) =>
          logitsOf(`${url}/m.gguf`, { cache, onProgress: (...progress) => (last[i] = progress as never) }),
        );
        const [first, ...others] = await Promise.all(loads);
        for (const other of others) expect(other).toEqual(first);
        expect(requests.filter(isWhole)).toHaveLength(1);
        expect(last).toEqual([last[0], last[0], last[0]]);
      });
    });

    /** Answers the header of each loader, and of the whole file nothing, until `go` decides. */
    async function withSlowFile(use: (url: string, whole: ServerResponse[]) => Promise<void>) {
      const whole: ServerResponse[] = [];
      const answer = ({ headers }: IncomingMessage, response: ServerResponse) =>
        headers.range === `bytes=0-${gguf.length - 1}` && whole.length < 1 && whole.push(response) > 0;
      await withModelServer(files, { answer }, ({ url }) => use(`${url}/m.gguf`, whole));
    }

    test('when the one that downloads fails, the next one does it', async () => {
      const cache = new MemoryFolder('cache');
      await withSlowFile(async (address, whole) => {
        const first = loadModel(address, { cache });
        const second = logitsOf(address, { cache });
        await vi.waitFor(() => expect(whole).toHaveLength(1));
        whole[0].destroy();
        const [one, two] = await Promise.allSettled([first, second]);
        expect(String((one as PromiseRejectedResult).reason)).toContain('cannot be reached');
        expect((two as PromiseFulfilledResult<number[]>).value).toEqual(await logitsOf(ggufPath));
      });
    });

    test('a signal ends the waiting for another one', async () => {
      const cache = new MemoryFolder('cache');
      await withSlowFile(async (address, whole) => {
        const [one, two] = [new AbortController(), new AbortController()];
        const first = loadModel(address, { cache, signal: one.signal });
        await vi.waitFor(() => expect(whole).toHaveLength(1));
        const second = loadModel(address, { cache, signal: two.signal });
        setTimeout(() => two.abort(new Error('enough')), 50);
        await expect(second).rejects.toThrow('enough');
        one.abort(new Error('enough too'));
        await expect(first).rejects.toThrow('enough too');
      });
    });
  });

  describe('what turns out to be no model does not stay', () => {
    const page = Buffer.from(`<!doctype html><title>Log in</title>${' '.repeat(100)}`);
    const longer = () => Buffer.concat([files['/demo/model.safetensors'], page]);
    test.each([
      ['a page', '/m.gguf', '/m.gguf', () => page],
      ['a header that ends too early', '/m.gguf', '/m.gguf', () => gguf.subarray(0, 3000)],
      ['weights that end too early', '/m.gguf', '/m.gguf', () => gguf.subarray(0, gguf.length - 9000)],
      ['weights of another length', '/demo/', '/demo/model.safetensors', longer],
      ['a shard', '/sharded', '/sharded/model-00002-of-00003.safetensors', () => page],
      ['an index', '/sharded', '/sharded/model.safetensors.index.json', () => page],
      ['a config', '/demo/', '/demo/config.json', () => page],
    ])('%s', async (_, address, wrong, content) => {
      const served = { ...files };
      for (const cache of [new MemoryFolder('cache'), join(folder, 'wrong'), new FakeDirectory('cache')]) {
        await withModelServer(served, {}, async ({ url, requests }) => {
          served[wrong] = content();
          await expect(loadModel(url + address, { cache })).rejects.toThrow();
          served[wrong] = files[wrong];
          await loadModel(url + address, { cache }).then((model) => model.dispose());
          requests.length = 0;
          await loadModel(url + address, { cache }).then((model) => model.dispose());
          expect(requests).toEqual([]);
        });
      }
    });

    test('a tokenizer, which is read after loading', async () => {
      const cache = new MemoryFolder('cache');
      const served: typeof files = { ...files, '/demo/tokenizer.json': page };
      await withModelServer(served, {}, async ({ url }) => {
        const model = await loadModel(`${url}/demo/`, { cache });
        expect(() => model.tokenizer).toThrow('/demo/tokenizer.json: ');
        model.dispose();
        served['/demo/tokenizer.json'] = files['/demo/tokenizer.json'];
        const again = await loadModel(`${url}/demo/`, { cache });
        expect(again.tokenizer).toBeDefined();
        again.dispose();
      });
    });
  });

  test('what a killed process leaves belongs to it', async () => {
    const cache = join(folder, 'killed');
    let names: string[] = [];
    const onProgress = (_done: number, _total: number, phase: string) => {
      if (phase === 'downloading') names = readdirSync(join(cache, readdirSync(cache)[0]));
    };
    await withModelServer(files, {}, ({ url }) => logitsOf(`${url}/m.gguf`, { cache, onProgress }));
    expect(names).toContain('gqa-cache.json');
    expect(names).not.toContain('m.gguf');
  });

  test('no room is an error with both numbers', async () => {
    const cache = new MemoryFolder('cache');
    vi.spyOn(MemoryFolder.prototype, 'space').mockResolvedValue(10);
    await withModelServer(files, {}, async ({ url }) => {
      await expect(loadModel(`${url}/m.gguf`, { cache })).rejects.toThrow(
        `m.gguf: expected ${gguf.length} bytes of free space in the cache, got 10; clearModelCache() empties it`,
      );
    });
  });

  test('true needs a browser', async () => {
    await expect(loadModel('http://127.0.0.1:1/m.gguf', { cache: true })).rejects.toThrow(
      "loadModel: expected cache to be a folder, since there is no browser's storage (OPFS) here, got true",
    );
  });
});
