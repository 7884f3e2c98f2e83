/** A web server of files in memory, with or without range requests, that counts the bytes sent. */
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';

export interface FileServer {
  readonly url: string;
  /** Bytes of bodies handed out so far. */
  readonly sent: number;
  /** Range headers asked for. */
  readonly ranges: readonly string[];
  /** Values of accept-encoding. */
  readonly encodings: readonly string[];
}

export interface ServerOptions {
  /** Default true; false sends every file whole with status 200. */
  readonly ranges?: boolean;
  /** Bytes that the server leaves out at the end of a range. */
  readonly cut?: number;
  /**
   * What the server does wrong with a range: bytes that never end, slow ones, a part after which it closes,
   * none at all, compressed ones, another place than was asked for, a redirect to itself.
   */
  readonly fault?:
    | 'endless'
    | 'drip'
    | 'reset'
    | 'silent'
    | 'gzip'
    | 'shifted'
    | 'huge size'
    | 'loop'
    | 'endless 200';
}

export async function withServer<T>(
  files: Readonly<Record<string, Uint8Array | string>>,
  options: ServerOptions,
  use: (server: FileServer) => Promise<T>,
): Promise<T> {
  let sent = 0;
  const ranges: string[] = [];
  const encodings: string[] = [];
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
    encodings.push(String(request.headers['accept-encoding']));
    if (options.fault !== undefined) {
      answerWrongly(options.fault, Number(range[1]), Number(range[2]), bytes.length, response, (count) => {
        sent += count;
      });
      return;
    }
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
      encodings,
    });
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}

function answerWrongly(
  fault: NonNullable<ServerOptions['fault']>,
  from: number,
  to: number,
  size: number,
  response: ServerResponse,
  count: (bytes: number) => void,
): void {
  const last = Math.min(to, size - 1);
  const range = { 'content-range': `bytes ${from}-${last}/${size}` };
  const chunk = new Uint8Array(1 << 16).fill(0x20);
  const pour = () => {
    // As fast as the reader takes it, and not for ever should the reader be broken.
    let total = 0;
    const more = () => {
      while (!response.destroyed && total < 1 << 28) {
        total += chunk.length;
        count(chunk.length);
        if (!response.write(chunk)) {
          response.once('drain', more);
          return;
        }
      }
      response.end();
    };
    more();
  };
  switch (fault) {
    case 'silent':
      return;
    case 'loop':
      response.writeHead(302, { location: '#again' }).end();
      return;
    case 'endless':
      response.writeHead(206, range);
      pour();
      return;
    case 'endless 200':
      response.writeHead(200);
      pour();
      return;
    case 'drip': {
      response.writeHead(206, range);
      const timer = setInterval(() => response.write('x'), 20);
      response.on('close', () => clearInterval(timer));
      return;
    }
    case 'reset':
      response.writeHead(206, range).write('GGUF', () => response.destroy());
      return;
    case 'gzip': {
      const packed = gzipSync(new Uint8Array(1 << 24));
      count(packed.length);
      response.writeHead(206, { ...range, 'content-encoding': 'gzip' }).end(packed);
      return;
    }
    case 'shifted':
      response.writeHead(206, { 'content-range': `bytes ${from + 1}-${last}/${size}` });
      pour();
      return;
    case 'huge size':
      response.writeHead(206, { 'content-range': `bytes 0-0/${'9'.repeat(30)}` }).end('G');
  }
}
