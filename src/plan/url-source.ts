/**
 * A file on a web server as a ByteSource, read by range requests: of a model of many gigabytes only its header travels.
 * Neighbouring reads are served from what the last request brought.
 *
 * Source: RFC 9110 section 14 (Range, Content-Range, 206).
 */
import { type ByteSource, checkRange } from '../format/byte-source.ts';
import { FormatError } from '../format/format-error.ts';

/** Asked for at least: a config.json whole, the first keys of a GGUF, most safetensors headers of small models. */
const LEAST = 1 << 16;
/** A server without ranges may send a file of up to this many bytes whole (a config.json). */
const WHOLE = 1 << 20;
/** Asked for at most, all requests together. Real headers take some ten MB. */
const MOST = 1 << 26;
/** For the first byte and a small answer; a larger one has a second more per 256 KiB. */
const TIMEOUT_MS = 30_000;

/** The server has no such file (404), or wants a login for it (401, 403). */
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
 * @param timeoutMs how long an answer of at most 256 KiB may take
 * @throws NoSuchFileError for 401, 403, 404 and 410; Error when the server cannot be reached or stops, answers with another status,
 * with other bytes than were asked for or in another encoding, or sends a large file whole because it ignores ranges. Reads throw
 * the same, and Error past 64 MiB in all
 */
export async function openUrl(url: string, timeoutMs: number = TIMEOUT_MS): Promise<ByteSource> {
  const first = await request(url, 0, LEAST, timeoutMs);
  let asked = LEAST;
  let { start, bytes } = first;
  const { size } = first;
  return {
    name: url,
    size,
    async read(offset, length) {
      checkRange(url, size, offset, length);
      if (offset < start || offset + length > start + bytes.length) {
        const wanted = Math.min(size - offset, Math.max(length, LEAST));
        asked += wanted;
        if (asked > MOST) {
          throw new Error(
            `${url}: expected a header within ${MOST} bytes, got ${length} more to read at byte ${offset}; download it and give its path`,
          );
        }
        const next = await request(url, offset, wanted, timeoutMs);
        if (next.size !== size)
          throw new Error(`${url}: expected the ${size} bytes of before, got ${next.size}`);
        ({ start, bytes } = next);
        if (bytes.length < length) {
          throw new FormatError(url, offset + bytes.length, `expected ${length} bytes, got ${bytes.length}`);
        }
      }
      return bytes.subarray(offset - start, offset - start + length);
    },
  };
}

/** What a request brought: bytes from `start` on, at most as many as asked for, and the size of the whole file. */
interface Part {
  readonly start: number;
  readonly size: number;
  readonly bytes: Uint8Array;
}

async function request(url: string, start: number, length: number, timeoutMs: number): Promise<Part> {
  const ms = timeoutMs + Math.floor(length / (1 << 18)) * 1000;
  const signal = AbortSignal.timeout(ms);
  // With a range, fetch asks for the encoding `identity` by itself (Fetch standard, HTTP-network-or-cache fetch).
  const headers = { range: `bytes=${start}-${start + length - 1}` };
  try {
    return await partOf(url, start, length, await fetch(url, { headers, signal }));
  } catch (cause) {
    if (signal.aborted) {
      throw new Error(`${url}: expected an answer within ${ms / 1000} s, got none or a part of it`, {
        cause,
      });
    }
    // What partOf says names the address already.
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
      // Bytes of a compressed form are of no use, and few of them may become many.
      return refuse(
        new Error(`${url}: expected the file's bytes as they are, got content-encoding ${encoding}`),
      );
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
    const bytes = Number(stated) > WHOLE ? undefined : await body(response, WHOLE);
    if (bytes !== undefined) return { start: 0, size: bytes.length, bytes };
    return refuse(
      new Error(
        `${url}: expected a server that answers range requests, got the whole file${stated ? ` of ${stated} bytes` : ''}; download it and give its path`,
      ),
    );
  }
  if ([401, 403, 404, 410].includes(status)) return refuse(new NoSuchFileError(url, status));
  // 416: nothing at byte 0, so the file is empty.
  if (status === 416 && start === 0) {
    await response.body?.cancel();
    return { start: 0, size: 0, bytes: new Uint8Array(0) };
  }
  return refuse(new Error(`${url}: expected status 206 for a range request, got ${status}`));
}

/** The body, if it has at most `most` bytes; undefined for a longer one, of which the rest is not fetched. */
async function body(response: Response, most: number): Promise<Uint8Array | undefined> {
  const parts: Uint8Array[] = [];
  let size = 0;
  const reader = response.body?.getReader();
  for (;;) {
    const part = await reader?.read();
    if (part === undefined || part.done) break;
    parts.push(part.value);
    size += part.value.length;
    if (size > most) {
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
