/**
 * A file on a web server as a ByteSource, read by range requests, so that only the header of a large model is
 * downloaded. Reads within the bytes of the last request need no new one.
 *
 * Source: RFC 9110 section 14 (Range, Content-Range, 206).
 */
import { type ByteSource, checkRange } from '../format/byte-source.ts';
import { FormatError } from '../format/format-error.ts';

/** Fewest bytes of a request: enough for a config.json and for the safetensors headers of small models. */
const MIN_REQUEST_BYTES = 1 << 16;
/** Most bytes of a file that a server without ranges may send whole (a config.json). */
const MAX_WHOLE_BYTES = 1 << 20;
/** Most bytes of all requests together. Real headers take about 10 MB. */
const MAX_TOTAL_BYTES = 1 << 26;
/** For a response of at most 256 KiB; each further 256 KiB has a second more. */
const TIMEOUT_MS = 30_000;

/** The server does not have the file (404, 410) or requires a login for it (401, 403). */
export class NoSuchFileError extends Error {
  override readonly name = 'NoSuchFileError';
  readonly status: number;
  constructor(url: string, status: number) {
    super(`${url}: expected a file, got status ${status}`);
    this.status = status;
  }
}

/**
 * @param url of a file; redirects are followed
 * @param timeoutMs how long a response of at most 256 KiB may take
 * @throws NoSuchFileError for 401, 403, 404 and 410; Error when the server cannot be reached or stops,
 *   responds with another status, other bytes than requested or another encoding, or sends a large file whole
 *   because it does not support ranges. Reads throw the same, and Error past 64 MiB in all
 */
export async function openUrl(url: string, timeoutMs: number = TIMEOUT_MS): Promise<ByteSource> {
  let { start, bytes, size } = await request(url, 0, MIN_REQUEST_BYTES, timeoutMs);
  let requested = MIN_REQUEST_BYTES;
  return {
    name: url,
    size,
    async read(offset, length) {
      checkRange(url, size, offset, length);
      if (offset < start || offset + length > start + bytes.length) {
        const wanted = Math.min(size - offset, Math.max(length, MIN_REQUEST_BYTES));
        requested += wanted;
        if (requested > MAX_TOTAL_BYTES) {
          const got = `${length} more at byte ${offset}; download the file and give its path`;
          throw new Error(`${url}: expected a header of at most ${MAX_TOTAL_BYTES} bytes, got ${got}`);
        }
        const next = await request(url, offset, wanted, timeoutMs);
        if (next.size !== size) {
          throw new Error(`${url}: expected ${size} bytes as in the first response, got ${next.size}`);
        }
        ({ start, bytes } = next);
        if (bytes.length < length) {
          throw new FormatError(url, offset + bytes.length, `expected ${length} bytes, got ${bytes.length}`);
        }
      }
      return bytes.subarray(offset - start, offset - start + length);
    },
  };
}

/**
 * The response to a range request: bytes from `start` on, at most as many as requested, and the file's size.
 */
interface Part {
  readonly start: number;
  readonly size: number;
  readonly bytes: Uint8Array;
}

async function request(url: string, start: number, length: number, timeoutMs: number): Promise<Part> {
  const ms = timeoutMs + Math.floor(length / (1 << 18)) * 1000;
  const signal = AbortSignal.timeout(ms);
  // With a range, fetch asks for the encoding `identity` by itself (Fetch standard, HTTP-network-or-cache
  // fetch).
  const headers = { range: `bytes=${start}-${start + length - 1}` };
  try {
    return await partOf(url, start, length, await fetch(url, { headers, signal }));
  } catch (cause) {
    if (signal.aborted) {
      const message = `${url}: expected a whole response within ${ms / 1000} s, got none or a part of it`;
      throw new Error(message, { cause });
    }
    // Errors of partOf begin with the URL.
    if ((cause as Error).message.startsWith(url)) throw cause;
    throw new Error(`${url}: cannot be reached: ${reasonOf(cause)}`, { cause });
  }
}

async function partOf(url: string, start: number, length: number, response: Response): Promise<Part> {
  const { status, headers } = response;
  const refuse = async (error: Error): Promise<never> => {
    if (response.body?.locked === false) await response.body.cancel();
    throw error;
  };
  if (status === 206) {
    const encoding = headers.get('content-encoding') ?? 'identity';
    if (encoding !== 'identity') {
      // A range of compressed bytes is useless, and few bytes could decompress to very many.
      return refuse(new Error(`${url}: expected uncompressed bytes, got content-encoding ${encoding}`));
    }
    const stated = headers.get('content-range') ?? 'none';
    const match = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(stated);
    const [from, to, size] = (match ?? []).slice(1).map(Number);
    const expected = to - from + 1;
    const wrong = () =>
      new Error(`${url}: expected bytes ${start} to ${start + length - 1}, got content-range ${stated}`);
    const fits = from === start && expected >= 1 && expected <= length && to < size;
    if (match === null || !fits || !Number.isSafeInteger(size)) return refuse(wrong());
    const bytes = await body(response, expected);
    if (bytes?.length !== expected) throw wrong();
    return { start, size, bytes };
  }
  if (status === 200) {
    const stated = headers.get('content-length');
    const bytes = Number(stated) > MAX_WHOLE_BYTES ? undefined : await body(response, MAX_WHOLE_BYTES);
    if (bytes !== undefined) return { start: 0, size: bytes.length, bytes };
    const got = `the whole file${stated ? ` of ${stated} bytes` : ''}; download it and give its path`;
    return refuse(new Error(`${url}: expected a server with range requests, got ${got}`));
  }
  if ([401, 403, 404, 410].includes(status)) return refuse(new NoSuchFileError(url, status));
  // 416 at byte 0: the file is empty.
  if (status === 416 && start === 0) {
    await response.body?.cancel();
    return { start: 0, size: 0, bytes: new Uint8Array(0) };
  }
  return refuse(new Error(`${url}: expected status 206 for a range request, got ${status}`));
}

/** The body; undefined if it has more than `maxBytes` bytes, of which the rest is not downloaded. */
async function body(response: Response, maxBytes: number): Promise<Uint8Array | undefined> {
  const parts: Uint8Array[] = [];
  let size = 0;
  const reader = response.body?.getReader();
  for (;;) {
    const part = await reader?.read();
    if (part === undefined || part.done) break;
    parts.push(part.value);
    size += part.value.length;
    if (size > maxBytes) {
      await reader?.cancel();
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

function reasonOf(error: unknown): string {
  const { message, cause } = error as { message: string; cause?: { message?: string; code?: string } };
  return cause?.message || cause?.code || message;
}
