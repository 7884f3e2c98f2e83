/** A web server of a model's files, with the habits and faults of servers in the world. */
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';

export interface ModelServer {
  readonly url: string;
  /** Path and range of each request, such as `/config.json 0-65535`. */
  readonly requests: string[];
  /** Headers of each request. */
  readonly headers: IncomingMessage['headers'][];
}

export interface ModelServerOptions {
  /** Default true; false answers every request with the whole file and status 200. */
  readonly ranges?: boolean;
  /** Whether a 200 response states its length; default true. */
  readonly length?: boolean;
  /** Compresses 200 responses. */
  readonly gzip?: boolean;
  /** The ETag of a response, by the number of the request for this file. */
  readonly etag?: (request: number) => string;
  /** Answers in place of the server; returns whether it did. */
  readonly answer?: (request: IncomingMessage, response: ServerResponse) => boolean;
  /** What a request for an unknown file gets; default status 404. */
  readonly missing?: (response: ServerResponse) => void;
}

export async function serve(handler: RequestListener): Promise<{ url: string; close: () => Promise<void> }> {
  const server = createServer(handler);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Serves `files`, by path, for the time of `use`. */
export async function withModelServer<T>(
  files: Readonly<Record<string, Uint8Array>>,
  options: ModelServerOptions,
  use: (server: ModelServer) => Promise<T>,
): Promise<T> {
  const requests: string[] = [];
  const headers: IncomingMessage['headers'][] = [];
  const counts = new Map<string, number>();
  const { url, close } = await serve((request, response) => {
    const path = decodeURIComponent(new URL(request.url ?? '/', 'http://localhost').pathname);
    const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
    requests.push(`${path} ${from}-${to}`);
    headers.push(request.headers);
    if (options.answer?.(request, response)) return;
    const bytes = files[path];
    if (bytes === undefined) {
      if (options.missing) options.missing(response);
      else response.writeHead(404).end('no');
      return;
    }
    const count = (counts.get(path) ?? 0) + 1;
    counts.set(path, count);
    const etag = options.etag && { etag: options.etag(count) };
    if (options.ranges === false) {
      const body = options.gzip ? gzipSync(bytes) : bytes;
      const encoding = options.gzip && { 'content-encoding': 'gzip' };
      const length = options.length !== false && { 'content-length': body.length };
      response.writeHead(200, { ...etag, ...encoding, ...length });
      for (let at = 0; at < body.length; at += 1 << 20) response.write(body.subarray(at, at + (1 << 20)));
      response.end();
      return;
    }
    const end = Math.min(to === '' ? bytes.length : Number(to) + 1, bytes.length);
    const range = { 'content-range': `bytes ${from}-${end - 1}/${bytes.length}` };
    response.writeHead(206, { ...etag, ...range }).end(bytes.subarray(Number(from), end));
  });
  try {
    return await use({ url, requests, headers });
  } finally {
    await close();
  }
}
