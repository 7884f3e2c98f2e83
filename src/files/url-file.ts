/**
 * A file on a web server, read by range requests, so that only the needed parts travel. From a server without
 * ranges it is read in its order, in one response.
 *
 * Source: RFC 9110 section 14 (Range, Content-Range, 206).
 */
import { checkRange } from '../format/byte-source.ts';
import { FormatError } from '../format/format-error.ts';
import { addressOf, Download, type FetchOptions } from './download.ts';
import type { FileSource } from './folder.ts';

/** Fewest bytes of a request: enough for a config.json and for the safetensors headers of small models. */
const MIN_REQUEST_BYTES = 1 << 16;
/** Most bytes that are held of a file whose length the server does not state. */
const MAX_WHOLE_BYTES = 1 << 26;
/** Most bytes of all reads of a file together; real headers take about 10 MB. `readInto` has no limit. */
const MAX_READ_BYTES = (1 << 26) + MIN_REQUEST_BYTES;

/** The server does not have the file (404, 410) or requires a login for it (401, 403). */
export class NoSuchFileError extends Error {
  override readonly name = 'NoSuchFileError';
  readonly status: number;
  constructor(address: string, status: number) {
    const login = status === 401 || status === 403 ? ', which may need a token' : '';
    super(`${address}: expected a file, got status ${status}${login}`);
    this.status = status;
  }
}

/** What a response states about the file; it must not change between requests. */
interface FileFacts {
  readonly size: number;
  /** ETag, else Last-Modified; undefined where the server sends none, or hides it from pages. */
  readonly version: string | undefined;
  /** The media type, without parameters. */
  readonly type: string;
}

/** Bytes of a file from `start` on. */
interface Held {
  readonly start: number;
  readonly bytes: Uint8Array;
}

type Part = Held & FileFacts;

const NOTHING: Held = { start: 0, bytes: new Uint8Array(0) };

export class UrlFile implements FileSource {
  readonly name: string;
  readonly size: number;
  /** The media type of the response, such as `text/html`. */
  readonly type: string;
  readonly #url: URL;
  readonly #options: FetchOptions;
  readonly #facts: FileFacts;
  readonly #hasRanges: boolean;
  /** The last bytes that were read; without ranges all from byte 0 on. */
  #held: Held;
  /** Without ranges, the response under way. */
  #whole: WholeFile | undefined;
  /** Ends when the read before has ended: without ranges they share one response. */
  #turn: Promise<unknown> = Promise.resolve();
  #requested = MIN_REQUEST_BYTES;

  private constructor(url: URL, options: FetchOptions, first: Part | WholeFile) {
    this.#url = url;
    this.#options = options;
    this.#hasRanges = !(first instanceof WholeFile);
    this.#facts = first instanceof WholeFile ? first.facts : first;
    this.#held = first instanceof WholeFile ? NOTHING : first;
    this.#whole = first instanceof WholeFile ? first : undefined;
    this.name = addressOf(url);
    this.size = this.#facts.size;
    this.type = this.#facts.type;
  }

  /**
   * @param url of a file; redirects are followed
   * @throws NoSuchFileError for 401, 403, 404 and 410; Error when the server cannot be reached or stops,
   * responds with another status, other bytes than requested or another encoding. Reads throw the same, and
   * Error past 64 MiB in all
   */
  static async open(url: URL, options: FetchOptions = {}): Promise<UrlFile> {
    const file = new UrlFile(url, options, await request(url, 0, MIN_REQUEST_BYTES, options));
    if (!file.#hasRanges && file.size <= MIN_REQUEST_BYTES) await file.#holdTo(file.size);
    return file;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    checkRange(this.name, this.size, offset, length);
    const held = this.#heldPart(offset, length);
    if (held !== undefined) return held;
    const wanted = Math.min(this.size - offset, Math.max(length, MIN_REQUEST_BYTES));
    this.#requested += wanted;
    if (this.#requested > MAX_READ_BYTES) {
      const got = `${length} more at byte ${offset}; download the file and give its path`;
      throw new Error(`${this.name}: expected a header of at most ${MAX_READ_BYTES} bytes, got ${got}`);
    }
    if (this.#hasRanges) {
      const part = await this.#part(offset, wanted);
      this.#held = part;
      return part.bytes.subarray(0, length);
    }
    if (offset + length > MAX_READ_BYTES) {
      const bytes = new Uint8Array(length);
      await this.readInto(offset, bytes);
      return bytes;
    }
    await this.#inTurn(() => this.#holdTo(offset + length));
    return this.#heldPart(offset, length) ?? this.read(offset, length);
  }

  async readInto(offset: number, target: Uint8Array): Promise<void> {
    let done = 0;
    for await (const part of this.stream(offset, target.length)) {
      target.set(part, done);
      done += part.length;
    }
  }

  async *stream(offset: number, length: number): AsyncGenerator<Uint8Array> {
    checkRange(this.name, this.size, offset, length);
    const held = this.#heldPart(offset, length);
    if (held !== undefined) yield held;
    else yield* this.#hasRanges ? this.#range(offset, length) : this.#inOrder(offset, length);
  }

  /** Ends the request under way. A later read starts a new one. */
  async close(): Promise<void> {
    const whole = this.#whole;
    this.#whole = undefined;
    if (this.#held.bytes.length > MIN_REQUEST_BYTES) this.#held = NOTHING;
    await whole?.cancel();
  }

  #heldPart(offset: number, length: number): Uint8Array | undefined {
    const { start, bytes } = this.#held;
    if (offset < start || offset + length > start + bytes.length) return undefined;
    return bytes.subarray(offset - start, offset - start + length);
  }

  async #part(offset: number, length: number): Promise<Part> {
    const part = await request(this.#url, offset, length, this.#options);
    if (part instanceof WholeFile) {
      await part.cancel();
      throw new Error(`${this.name}: expected status 206 as in the first response, got 200`);
    }
    this.#checkSame(part);
    if (part.bytes.length < length) {
      throw tooShort(this.name, offset + part.bytes.length, length - part.bytes.length);
    }
    return part;
  }

  async *#range(offset: number, length: number): AsyncGenerator<Uint8Array> {
    const download = await Download.start(this.#url, rangeOf(offset, length), undefined, this.#options);
    try {
      this.#checkSame(await rangeFacts(download, this.name, offset, length));
      let done = 0;
      for (let part = await download.next(); part !== undefined; part = await download.next()) {
        done += part.length;
        if (done > length)
          throw new FormatError(this.name, offset + length, `expected ${length} bytes, got more`);
        yield part;
      }
      if (done < length) throw tooShort(this.name, offset + done, length - done);
    } finally {
      await download.cancel();
    }
  }

  /** From a server without ranges: bytes before `offset` are skipped. */
  async *#inOrder(offset: number, length: number): AsyncGenerator<Uint8Array> {
    let end: () => void = () => {};
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    const before = this.#turn;
    this.#turn = ended;
    await before;
    try {
      let at = offset;
      const held = this.#held.bytes.subarray(offset, offset + length);
      at += held.length;
      if (held.length > 0) yield held;
      const whole = await this.#wholeFrom(at);
      await whole.skipTo(at);
      while (at < offset + length) {
        const part = await whole.next(offset + length - at);
        at += part.length;
        yield part;
      }
    } finally {
      end();
    }
  }

  #inTurn<T>(step: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(step);
    this.#turn = result.catch(() => {});
    return result;
  }

  /** Reads a server without ranges on until all bytes before `end` are held. */
  async #holdTo(end: number): Promise<void> {
    const { bytes } = this.#held;
    if (end <= bytes.length) return;
    const whole = await this.#wholeFrom(bytes.length);
    await whole.skipTo(bytes.length);
    const grown = new Uint8Array(Math.min(this.size, Math.max(end, 2 * bytes.length, MIN_REQUEST_BYTES)));
    grown.set(bytes);
    for (let at = bytes.length; at < grown.length; ) {
      const part = await whole.next(grown.length - at);
      grown.set(part, at);
      at += part.length;
    }
    this.#held = { start: 0, bytes: grown };
  }

  /** The response that goes on at `offset` or before it: the one under way, else a new one. */
  async #wholeFrom(offset: number): Promise<WholeFile> {
    if (this.#whole !== undefined && this.#whole.position <= offset) return this.#whole;
    await this.#whole?.cancel();
    this.#whole = undefined;
    const whole = await request(this.#url, 0, MIN_REQUEST_BYTES, this.#options);
    if (!(whole instanceof WholeFile)) {
      throw new Error(`${this.name}: expected status 200 as in the first response, got 206`);
    }
    this.#whole = whole;
    this.#checkSame(whole.facts);
    return whole;
  }

  /** @throws when a later response is of another file than the first */
  #checkSame({ size, version }: FileFacts): void {
    const first = this.#facts;
    if (size !== first.size) {
      throw new Error(`${this.name}: expected ${first.size} bytes as in the first response, got ${size}`);
    }
    if (version === undefined || first.version === undefined || version === first.version) return;
    const what = 'expected the file whose header was read, got another one in its place; open it again';
    throw new FormatError(this.name, undefined, what);
  }
}

/** The body of a response with a whole file, read in its order. */
class WholeFile {
  readonly facts: FileFacts;
  readonly #address: string;
  readonly #download: Download;
  #rest: Uint8Array;
  /** Of the next byte. */
  position = 0;

  /** @param bytes the whole body, where it has been read */
  constructor(address: string, download: Download, facts: FileFacts, bytes: Uint8Array = NOTHING.bytes) {
    this.#address = address;
    this.#download = download;
    this.facts = facts;
    this.#rest = bytes;
  }

  /** The next bytes, at most `length`. @throws FormatError at the end */
  async next(length: number): Promise<Uint8Array> {
    while (this.#rest.length === 0) {
      const part = await this.#download.next();
      if (part === undefined) throw tooShort(this.#address, this.position, this.facts.size - this.position);
      this.#rest = part;
    }
    const part = this.#rest.subarray(0, length);
    this.#rest = this.#rest.subarray(part.length);
    this.position += part.length;
    return part;
  }

  async skipTo(offset: number): Promise<void> {
    while (this.position < offset) await this.next(offset - this.position);
  }

  cancel(): Promise<void> {
    return this.#download.cancel();
  }
}

/** Asks for a range; a server without ranges sends the whole file. */
async function request(
  url: URL,
  start: number,
  length: number,
  options: FetchOptions,
): Promise<Part | WholeFile> {
  const address = addressOf(url);
  const download = await Download.start(url, rangeOf(start, length), length, options);
  const { status, headers } = download.response;
  if (status === 206 && headers.get('content-range') === null && 'location' in globalThis) {
    // A server may hide this header from pages of other origins. It shows the length of the whole.
    await download.cancel();
    return wholeFile(address, await Download.start(url, '0-', undefined, options));
  }
  if (status === 206) {
    const facts = await rangeFacts(download, address, start, length);
    const expected = facts.end - start;
    const bytes = await download.all(expected);
    if (bytes?.length !== expected) {
      const got = bytes === undefined ? 'more' : bytes.length;
      throw new Error(`${address}: expected ${expected} bytes, as its content-range says, got ${got}`);
    }
    return { ...facts, start, bytes };
  }
  if (status === 200) return wholeFile(address, download);
  // 416 at byte 0: the file is empty.
  if (status === 416 && start === 0 && !/\/0*[1-9]/.test(headers.get('content-range') ?? '')) {
    await download.cancel();
    return { ...factsOf(download, 0), start: 0, bytes: new Uint8Array(0) };
  }
  return refuse(download, address);
}

async function wholeFile(address: string, download: Download): Promise<WholeFile> {
  const { status, headers } = download.response;
  if (status !== 200 && status !== 206) return refuse(download, address);
  const size = Number(headers.get('content-length') ?? Number.NaN);
  const isEncoded = (headers.get('content-encoding') ?? 'identity') !== 'identity';
  if (Number.isSafeInteger(size) && !isEncoded) {
    download.expectLong();
    return new WholeFile(address, download, factsOf(download, size));
  }
  const bytes = await download.all(MAX_WHOLE_BYTES);
  if (bytes !== undefined) return new WholeFile(address, download, factsOf(download, bytes.length), bytes);
  const got = isEncoded ? 'a compressed response' : 'a response without it';
  const rule = `expected a server that sends ranges of the file, or its length (content-length)`;
  throw new Error(`${address}: ${rule}, got ${got} of more than ${MAX_WHOLE_BYTES} bytes`);
}

/** What a 206 response states, checked against the request. */
async function rangeFacts(
  download: Download,
  address: string,
  start: number,
  length: number,
): Promise<FileFacts & { readonly end: number }> {
  const { status, headers } = download.response;
  if (status !== 206) return refuse(download, address);
  const encoding = headers.get('content-encoding') ?? 'identity';
  if (encoding !== 'identity') {
    // A range of compressed bytes is useless, and few bytes could decompress to very many.
    return download.fail(`expected uncompressed bytes, got content-encoding ${encoding}`);
  }
  const match = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(headers.get('content-range') ?? '');
  const [from, to, size] = (match ?? []).slice(1).map(Number);
  const end = to + 1;
  const fits = from === start && end > start && end - start <= length && end <= size;
  if (match !== null && fits && Number.isSafeInteger(size)) return { ...factsOf(download, size), end };
  await download.cancel();
  throw wrongRange(address, start, length, headers);
}

function factsOf({ response: { headers } }: Download, size: number): FileFacts {
  const [type = ''] = (headers.get('content-type') ?? '').split(';');
  return {
    size,
    version: headers.get('etag') ?? headers.get('last-modified') ?? undefined,
    type: type.trim().toLowerCase(),
  };
}

async function refuse(download: Download, address: string): Promise<never> {
  const { status } = download.response;
  await download.cancel();
  if ([401, 403, 404, 410].includes(status)) throw new NoSuchFileError(address, status);
  throw new Error(`${address}: expected status 206 for a range request, got ${status}`);
}

function rangeOf(start: number, length: number): string {
  return `${start}-${start + length - 1}`;
}

function wrongRange(address: string, start: number, length: number, headers: Headers): Error {
  const got = `content-range ${headers.get('content-range') ?? 'none'}`;
  return new Error(`${address}: expected bytes ${start} to ${start + length - 1}, got ${got}`);
}

function tooShort(address: string, at: number, missing: number): FormatError {
  return new FormatError(address, at, `expected ${missing} more bytes, got the end of the response`);
}
