/** A web server of folders and of bytes in memory, with range requests, that counts the requests of a path. */
import { createReadStream, statSync } from 'node:fs';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join } from 'node:path';
import { Readable } from 'node:stream';

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.wasm': 'application/wasm',
};

/** What a path gives: the path of a file or folder, or bytes. */
export type Content = string | Uint8Array;

export interface PageServer extends AsyncDisposable {
  readonly url: string;
  /** Requests by path so far. */
  readonly requests: ReadonlyMap<string, number>;
}

/**
 * @param content by the start of the path, such as `/vite/`
 * @param isIsolated whether pages may have shared memory: the headers COOP and COEP; default true
 */
export async function servePages(
  content: Readonly<Record<string, Content>>,
  isIsolated = true,
): Promise<PageServer> {
  const requests = new Map<string, number>();
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://localhost');
    requests.set(pathname, (requests.get(pathname) ?? 0) + 1);
    if (isIsolated) {
      response.setHeader('cross-origin-opener-policy', 'same-origin');
      response.setHeader('cross-origin-embedder-policy', 'require-corp');
    }
    response.setHeader('content-type', TYPES[extname(pathname)] ?? 'application/octet-stream');
    const prefix = Object.keys(content).find((start) => pathname.startsWith(start));
    const found = prefix === undefined ? undefined : content[prefix];
    if (found === undefined) response.writeHead(404).end();
    else if (typeof found === 'string')
      sendFile(join(found, pathname.slice(prefix!.length)), request.headers.range, response);
    else
      send(
        found.length,
        (from, to) => Readable.from([found.subarray(from, to)]),
        request.headers.range,
        response,
      );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function sendFile(path: string, range: string | undefined, response: ServerResponse): void {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (!stats?.isFile()) {
    response.writeHead(404).end();
    return;
  }
  send(stats.size, (start, to) => createReadStream(path, { start, end: to - 1 }), range, response);
}

function send(
  size: number,
  read: (from: number, to: number) => Readable,
  range: string | undefined,
  response: ServerResponse,
): void {
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(range ?? '') ?? [];
  const from = Number(first ?? 0);
  const to = last ? Math.min(Number(last) + 1, size) : size;
  response.setHeader('accept-ranges', 'bytes');
  response.setHeader('content-length', Math.max(0, to - from));
  if (first === undefined) response.writeHead(200);
  else if (from < size) response.writeHead(206, { 'content-range': `bytes ${from}-${to - 1}/${size}` });
  else response.writeHead(416, { 'content-range': `bytes */${size}`, 'content-length': 0 });
  if (to > from)
    read(from, to)
      .on('error', () => response.destroy())
      .pipe(response);
  else response.end();
}
