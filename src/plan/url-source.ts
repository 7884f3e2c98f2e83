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
 * @throws NoSuchFileError for 401, 403, 404 and 410; Error when the server cannot be reached, answers with another status, or sends a
 * large file whole because it ignores ranges
 */
export async function openUrl(url: string): Promise<ByteSource> {
  const first = await request(url, 0, LEAST);
  let { start, bytes } = first;
  const { size } = first;
  return {
    name: url,
    size,
    async read(offset, length) {
      checkRange(url, size, offset, length);
      if (offset < start || offset + length > start + bytes.length) {
        const next = await request(url, offset, Math.min(size - offset, Math.max(length, LEAST)));
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

/** Bytes from `start` on: at most `length`, fewer where the file ends, and the size of the whole file. */
async function request(
  url: string,
  start: number,
  length: number,
): Promise<{ start: number; size: number; bytes: Uint8Array }> {
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  let response: Response;
  try {
    response = await fetch(url, { headers: { range: `bytes=${start}-${start + length - 1}` }, signal });
  } catch (cause) {
    throw new Error(`${url}: cannot be reached: ${reasonOf(cause)}`, { cause });
  }
  const { status, headers } = response;
  if (status === 206) {
    const match = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(headers.get('content-range') ?? '');
    const bytes = new Uint8Array(await response.arrayBuffer());
    const [from, to, size] = (match ?? []).slice(1).map(Number);
    if (match === null || from !== start || to - from + 1 !== bytes.length || bytes.length > length) {
      throw new Error(
        `${url}: expected bytes ${start} to ${start + length - 1}, got content-range ${headers.get('content-range') ?? 'none'}`,
      );
    }
    return { start, size, bytes };
  }
  if (status === 200) return { start: 0, ...(await wholeFile(url, response)) };
  await response.body?.cancel();
  if ([401, 403, 404, 410].includes(status)) throw new NoSuchFileError(url, status);
  // 416: nothing at byte 0, so the file is empty.
  if (status === 416 && start === 0) return { start: 0, size: 0, bytes: new Uint8Array(0) };
  throw new Error(`${url}: expected status 206 for a range request, got ${status}`);
}

/** A file that came whole, if it is small; otherwise the rest is not fetched. */
async function wholeFile(url: string, response: Response): Promise<{ size: number; bytes: Uint8Array }> {
  const parts: Uint8Array[] = [];
  let size = 0;
  const reader = response.body?.getReader();
  for (;;) {
    const part = await reader?.read();
    if (part === undefined || part.done) break;
    parts.push(part.value);
    size += part.value.length;
    if (size > WHOLE) {
      await reader?.cancel();
      const stated = response.headers.get('content-length');
      throw new Error(
        `${url}: expected a server that answers range requests, got the whole file${stated ? ` of ${stated} bytes` : ''}; download it and give its path`,
      );
    }
  }
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return { size, bytes };
}

function reasonOf(error: unknown): string {
  const { message, cause } = error as { message: string; cause?: { message?: string; code?: string } };
  return cause?.message || cause?.code || message;
}
