/** A web server of a few files in memory that answers range requests, or does not, and counts what it sent. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface FileServer {
  readonly url: string;
  /** Bytes of bodies handed out so far. */
  readonly sent: number;
  /** Range headers asked for. */
  readonly ranges: readonly string[];
}

export interface ServerOptions {
  /** Default true; false sends every file whole with status 200. */
  readonly ranges?: boolean;
  /** Bytes that the server leaves out at the end of a range. */
  readonly cut?: number;
}

export async function withServer<T>(
  files: Readonly<Record<string, Uint8Array | string>>,
  options: ServerOptions,
  use: (server: FileServer) => Promise<T>,
): Promise<T> {
  let sent = 0;
  const ranges: string[] = [];
  const server = createServer((request, response) => {
    const path = new URL(request.url ?? '/', 'http://localhost').pathname;
    const content = files[path];
    if (path === '/moved') {
      response.writeHead(302, { location: '/model.gguf' }).end();
      return;
    }
    if (content === undefined) {
      response.writeHead(path === '/broken' ? 500 : 404).end('no');
      return;
    }
    const bytes = typeof content === 'string' ? new TextEncoder().encode(content) : content;
    const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
    const part = (from: number, to: number) => {
      const body = bytes.subarray(from, to);
      sent += body.length;
      return body;
    };
    if (range === null || options.ranges === false) {
      response.writeHead(200, { 'content-length': bytes.length }).end(part(0, bytes.length));
      return;
    }
    ranges.push(range[0]);
    const from = Number(range[1]);
    const to = Math.min(Number(range[2]) + 1, bytes.length) - (options.cut ?? 0);
    if (from >= bytes.length) {
      response.writeHead(416, { 'content-range': `bytes */${bytes.length}` }).end();
      return;
    }
    const stated = `bytes ${from}-${to - 1 + (options.cut ?? 0)}/${bytes.length}`;
    response.writeHead(206, { 'content-range': stated }).end(part(from, to));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    return await use({
      url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      get sent() {
        return sent;
      },
      ranges,
    });
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}
