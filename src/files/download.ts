/**
 * One HTTP request and its response, under a time limit and a caller's signal. Errors begin with the address,
 * without its query, which can hold a signature.
 *
 * Source: Fetch standard (redirects, CORS); RFC 9110 (Range, authorization).
 */
import { FormatError } from '../format/format-error.ts';

/** How files are fetched from an address. */
export interface FetchOptions {
  /** Sent as a bearer token to the host of the address, and to no other host that it redirects to. */
  readonly token?: string;
  /** Ends the requests; what waits for them then throws its reason. */
  readonly signal?: AbortSignal;
  /** How long a short response, or the next bytes of a long one, may take. Default: 30,000. */
  readonly timeoutMs?: number;
}

const TIMEOUT_MS = 30_000;
/** Each further 256 KiB of a short response have a second more. */
const BYTES_PER_SECOND = 1 << 18;
const MAX_REDIRECTS = 20;

/** An address as errors show it. */
export function addressOf({ origin, pathname, search }: URL): string {
  return `${origin}${pathname}${search && '?…'}`;
}

export class Download {
  readonly response: Response;
  readonly #address: string;
  readonly #deadline: Deadline;
  #reader: ReadableStreamDefaultReader<Uint8Array> | undefined;

  private constructor(address: string, deadline: Deadline, response: Response) {
    this.#address = address;
    this.#deadline = deadline;
    this.response = response;
  }

  /**
   * Sends the request and waits for the headers of the response.
   * @param range such as `0-99`
   * @param length bytes expected of a short response, which must arrive within one limit; undefined: each
   * part of the response has its own
   */
  static async start(
    url: URL,
    range: string,
    length: number | undefined,
    { token, signal, timeoutMs = TIMEOUT_MS }: FetchOptions,
  ): Promise<Download> {
    const ms = timeoutMs + Math.floor((length ?? 0) / BYTES_PER_SECOND) * 1000;
    const deadline = new Deadline(addressOf(url), ms, length === undefined, signal);
    // With a range, fetch asks for the encoding `identity` by itself (Fetch standard, HTTP-network-or-cache
    // fetch).
    const headers = { range: `bytes=${range}` };
    const response = await deadline.run(() => follow(url, headers, token, deadline.signal));
    return new Download(addressOf(url), deadline, response);
  }

  /** From now on each part of the response has a limit of its own. */
  expectLong(): void {
    this.#deadline.restart();
  }

  /** The next bytes of the body; undefined at its end. */
  async next(): Promise<Uint8Array | undefined> {
    this.#reader ??= this.response.body?.getReader();
    const reader = this.#reader;
    const part = await this.#deadline.run(async () => reader?.read());
    if (part === undefined || part.done) {
      this.#deadline.end();
      return undefined;
    }
    return part.value;
  }

  /** The whole body; undefined when it has more than `maxBytes` bytes, of which the rest is not fetched. */
  async all(maxBytes: number): Promise<Uint8Array | undefined> {
    const parts: Uint8Array[] = [];
    let size = 0;
    for (let part = await this.next(); part !== undefined; part = await this.next()) {
      parts.push(part);
      size += part.length;
      if (size > maxBytes) {
        await this.cancel();
        return undefined;
      }
    }
    const bytes = new Uint8Array(size);
    let at = 0;
    for (const part of parts) {
      bytes.set(part, at);
      at += part.length;
    }
    return bytes;
  }

  /** Ends the request; the rest of the body is not fetched. */
  async cancel(): Promise<void> {
    this.#deadline.end();
    await (this.#reader ?? this.response.body)?.cancel().catch(() => {});
  }

  /** Ends the request and throws `detail` with the address. */
  async fail(detail: string): Promise<never> {
    await this.cancel();
    throw new Error(`${this.#address}: ${detail}`);
  }
}

/** The time limit of a request. It runs only while something waits for the response. */
class Deadline {
  readonly #address: string;
  readonly #controller = new AbortController();
  readonly #ms: number;
  #each: boolean;
  readonly #outer: AbortSignal | undefined;
  #left: number;
  #timedOut = false;

  /** @param each whether every wait has the whole limit, or all together */
  constructor(address: string, ms: number, each: boolean, signal: AbortSignal | undefined) {
    this.#address = address;
    this.#ms = ms;
    this.#left = ms;
    this.#each = each;
    this.#outer = signal;
    signal?.addEventListener('abort', this.#abort);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  readonly #abort = () => this.#controller.abort(this.#outer?.reason);

  /** Waits for `step`. @throws the reason of the caller's signal; Error that says what went wrong */
  async run<T>(step: () => Promise<T>): Promise<T> {
    this.#outer?.throwIfAborted();
    const start = performance.now();
    const timer = setTimeout(() => {
      this.#timedOut = true;
      this.#controller.abort();
    }, this.#left);
    try {
      return await step();
    } catch (cause) {
      this.end();
      throw this.#explained(cause);
    } finally {
      clearTimeout(timer);
      if (!this.#each) this.#left = Math.max(0, this.#left - (performance.now() - start));
    }
  }

  /** Gives every later wait the whole limit. */
  restart(): void {
    this.#left = this.#ms;
    this.#each = true;
  }

  end(): void {
    this.#outer?.removeEventListener('abort', this.#abort);
  }

  #explained(cause: unknown): unknown {
    if (this.#outer?.aborted) return this.#outer.reason;
    if (this.#timedOut) {
      const expected = this.#each ? 'more bytes' : 'a whole response';
      const message = `expected ${expected} within ${this.#ms / 1000} s, got none or a part of it`;
      return new Error(`${this.#address}: ${message}`, { cause });
    }
    if (cause instanceof FormatError) return cause;
    const why = `${reasonOf(cause)}${crossOriginHint(this.#address)}`;
    return new Error(`${this.#address}: cannot be reached: ${why}`, { cause });
  }
}

/** As `fetch`, but a token goes to the host of `url` only. */
async function follow(
  url: URL,
  headers: Readonly<Record<string, string>>,
  token: string | undefined,
  signal: AbortSignal,
): Promise<Response> {
  if (token === undefined) return fetch(url, { headers, signal });
  const authorized = { ...headers, authorization: `Bearer ${token}` };
  let at = url;
  for (let redirects = 0; redirects <= MAX_REDIRECTS; redirects++) {
    const response = await fetch(at, { headers: authorized, signal, redirect: 'manual' });
    // A browser does not say where a redirect leads; it removes the token for another origin by itself.
    if (response.type === 'opaqueredirect') return fetch(at, { headers: authorized, signal });
    const location = [301, 302, 303, 307, 308].includes(response.status) && response.headers.get('location');
    if (!location) return response;
    await response.body?.cancel();
    at = redirected(location, at);
    if (at.origin !== url.origin) return fetch(at, { headers, signal });
  }
  throw new Error('redirect count exceeded');
}

/** @throws Error without the address, which can hold a password or a signature */
function redirected(location: string, from: URL): URL {
  const to = URL.canParse(location, from.href) ? new URL(location, from) : undefined;
  const isPlain = to !== undefined && /^https?:$/.test(to.protocol) && to.username + to.password === '';
  if (isPlain) return to;
  throw new Error('expected a redirect to an http(s) address without a password, got another');
}

function reasonOf(error: unknown): string {
  const { message, cause } = error as { message: string; cause?: { message?: string; code?: string } };
  return cause?.message || cause?.code || message;
}

/** Browsers do not say why a request to another origin failed. */
function crossOriginHint(address: string): string {
  const { location } = globalThis as { location?: { origin: string } };
  if (location === undefined || address.startsWith(`${location.origin}/`)) return '';
  return `; the server is down, or does not allow pages of ${location.origin} to read it (CORS: Access-Control-Allow-Origin)`;
}
