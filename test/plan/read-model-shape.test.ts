/**
 * readModelShape from paths, Blobs, bytes and a web server: only headers are read, and errors are one line.
 */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';
import { hubUrl } from '../../src/files/hub.ts';
import { UrlFile } from '../../src/files/url-file.ts';
import { bytesSource } from '../../src/format/byte-source.ts';
import { FormatError, readModelShape } from '../../src/plan/index.ts';
import { withFolder } from '../checkpoint/temporary-folder.ts';
import { buildGguf, stringPair } from '../format/build-files.ts';
import { withServer } from './file-server.ts';
import { config, largeGguf, someSafetensors } from './models.ts';

const gguf = largeGguf();
const sizes = { numLayers: 5, numHeads: 12, numKeyValueHeads: 4, headDim: 24, maxPositionEmbeddings: 512 };

describe('paths, Blobs and bytes', () => {
  test('a GGUF, a config.json, a safetensors file beside one, a directory', async () => {
    const files = { 'model.gguf': gguf, 'hf/config.json': config, 'hf/model.safetensors': someSafetensors() };
    await withFolder(files, async (folder) => {
      for (const name of ['model.gguf', 'hf', 'hf/', 'hf/config.json', 'hf/model.safetensors']) {
        expect(await readModelShape(join(folder, name)), name).toMatchObject(sizes);
      }
      expect(await readModelShape(pathToFileURL(join(folder, 'model.gguf')))).toMatchObject(sizes);
      expect(await readModelShape(folder)).toMatchObject(sizes);
    });
  });

  test('Blobs and byte sources', async () => {
    expect(await readModelShape(new Blob([gguf.slice()]))).toMatchObject(sizes);
    expect(await readModelShape(new Blob([config]))).toMatchObject(sizes);
    expect(await readModelShape(bytesSource('memory', gguf))).toMatchObject(sizes);
    await expect(readModelShape(new File([someSafetensors().slice()], 'm.safetensors'))).rejects.toThrow(
      'm.safetensors: expected config.json beside a safetensors file, whose header has no head counts, got none',
    );
  });

  test('the numbers that Python writes and JSON has not', async () => {
    const python = config.replace(
      '{',
      '{"time_step_limit": [0.0, Infinity, -Infinity, NaN], "note": "NaN, \\"Infinity", ',
    );
    expect(await readModelShape(new Blob([python]))).toMatchObject(sizes);
    await expect(readModelShape(new Blob(['{"a": Infinit}']))).rejects.toThrow('expected JSON, got:');
    await expect(readModelShape(new Blob(['{"a": Infinity']))).rejects.toThrow('expected JSON, got:');
  });

  test('what is not there, or is something else', async () => {
    await expect(readModelShape('/nowhere/at/all')).rejects.toThrow(
      '/nowhere/at/all: expected a config.json, .gguf or .safetensors file, got nothing there',
    );
    await withFolder(
      { 'a.txt': 'hello there, world', 'e/empty': '', 'x/model.safetensors': someSafetensors() },
      async (folder) => {
        await expect(readModelShape(join(folder, 'a.txt'))).rejects.toThrow(FormatError);
        await expect(readModelShape(join(folder, 'e/empty'))).rejects.toThrow('got an empty file');
        await expect(readModelShape(join(folder, 'x/model.safetensors'))).rejects.toThrow(
          'expected config.json beside',
        );
        await expect(readModelShape(folder)).rejects.toThrow('expected config.json or one .gguf file in it');
      },
    );
  });

  test('a truncated header says where it ends', async () => {
    for (const length of [3, 11, 40, 1000]) {
      const cut = bytesSource('cut.gguf', gguf.subarray(0, length));
      await expect(readModelShape(cut), String(length)).rejects.toThrow(FormatError);
    }
    await expect(
      readModelShape(bytesSource('config.json', new TextEncoder().encode(config.slice(0, 50)))),
    ).rejects.toThrow('config.json: expected JSON, got:');
  });
});

describe('URLs', () => {
  test('only the header of a GGUF travels', async () => {
    await withServer({ '/model.gguf': gguf }, {}, async (server) => {
      expect(await readModelShape(`${server.url}/model.gguf`)).toMatchObject(sizes);
      expect(server.sent).toBeLessThan(gguf.length / 2);
      expect(server.ranges.length).toBeLessThan(12);
      expect(await readModelShape(new URL('/moved', server.url))).toMatchObject(sizes);
    });
  });

  test('a safetensors file reads the config.json beside it', async () => {
    const files = { '/a/model.safetensors': someSafetensors(), '/a/config.json': config };
    await withServer(files, {}, async (server) => {
      expect(await readModelShape(`${server.url}/a/model.safetensors`)).toMatchObject(sizes);
    });
  });

  test('a server that ignores ranges: the file is read up to the end of its header', async () => {
    await withServer({ '/model.gguf': gguf, '/config.json': config }, { ranges: false }, async (server) => {
      expect(await readModelShape(`${server.url}/config.json`)).toMatchObject(sizes);
      expect(await readModelShape(`${server.url}/model.gguf`)).toMatchObject(sizes);
    });
  });

  test('missing files, broken servers, short bodies, truncated headers', async () => {
    const truncated = gguf.subarray(0, 5000);
    await withServer({ '/cut.gguf': truncated }, {}, async (server) => {
      await expect(readModelShape(`${server.url}/none.gguf`)).rejects.toThrow(
        'expected a file, got status 404',
      );
      await expect(readModelShape(`${server.url}/broken`)).rejects.toThrow(
        'expected status 206 for a range request, got 500',
      );
      await expect(readModelShape(`${server.url}/cut.gguf`)).rejects.toThrow(FormatError);
      await expect(readModelShape(`${server.url}/cut.gguf`)).rejects.toThrow(
        /cut\.gguf: at byte 300: expected/,
      );
    });
    await withServer({ '/model.gguf': gguf }, { cut: 7 }, async (server) => {
      await expect(readModelShape(`${server.url}/model.gguf`)).rejects.toThrow(
        /: expected 65536 bytes, as its content-range says, got 65529$/,
      );
    });
    await expect(readModelShape('http://127.0.0.1:1/x')).rejects.toThrow(
      'http://127.0.0.1:1/x: cannot be reached',
    );
  });

  test.each([
    ['endless', /: expected 65536 bytes, as its content-range says, got more$/],
    ['endless 200', /: expected a server that sends ranges .* got a response without it of more than/],
    ['drip', /: expected a whole response within 0\.4 s, got none or a part of it$/],
    ['silent', /: expected a whole response within 0\.4 s, got none or a part of it$/],
    ['reset', /: cannot be reached: (other side closed|terminated)/],
    ['gzip', /: expected uncompressed bytes, got content-encoding gzip$/],
    ['shifted', /: expected bytes 0 to 65535, got content-range bytes 1-65535\/\d+$/],
    ['huge size', /: expected bytes 0 to 65535, got content-range bytes 0-0\/9+$/],
    ['loop', /: cannot be reached: redirect count exceeded$/],
  ] as const)(
    'a server that answers %s: one line with the address, and little is read',
    async (fault, message) => {
      await withServer({ '/m.gguf': gguf }, { fault }, async (server) => {
        const url = `${server.url}/m.gguf`;
        const error = await UrlFile.open(new URL(url), {
          timeoutMs: fault === 'endless 200' ? 30_000 : 400,
        }).then(
          () => undefined,
          (reason: Error) => reason,
        );
        expect(error?.message.startsWith(url)).toBe(true);
        expect(error?.message.slice(url.length)).toMatch(message);
        // What the sockets between hold, not what the server would send (256 MiB).
        expect(server.sent).toBeLessThan(fault === 'endless 200' ? 1 << 27 : 1 << 24);
        expect(new Set(server.encodings)).toEqual(new Set(['identity']));
      });
    },
  );

  test('a header that claims hundreds of megabytes is not fetched', async () => {
    const head = buildGguf({
      pairs: [stringPair('general.architecture', 'llama'), ['big', 9, (w) => w.u32(0).u64(250_000_000)]],
    });
    const file = new Uint8Array(260_000_000);
    file.set(head);
    await withServer({ '/m.gguf': file }, {}, async (server) => {
      await expect(readModelShape(`${server.url}/m.gguf`)).rejects.toThrow(/m\.gguf: .*expected .*bytes/);
      expect(server.sent).toBeLessThan(1 << 24);
    });
  });

  test('a Blob is read inside its bounds', async () => {
    const cut = new File([gguf.slice(0, 1000)], 'cut.gguf');
    await expect(readModelShape(cut)).rejects.toThrow(FormatError);
  });

  test('hub ids', () => {
    expect(hubUrl('org/name')).toBe('https://huggingface.co/org/name/resolve/main/');
    expect(hubUrl('org/name/a/b.gguf', 'http://h/')).toBe('http://h/org/name/resolve/main/a/b.gguf');
    expect(hubUrl('llama-3-8b')).toBeUndefined();
    expect(hubUrl('./a/b')).toBeUndefined();
  });
});
