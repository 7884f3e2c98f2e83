/// <reference lib="esnext.disposable" preserve="true" />
/**
 * An opened checkpoint: the headers of its files, parsed and checked, and access to the bytes behind them. One type for
 * safetensors (one file or shards) and GGUF, so that converters and models need not care which it was.
 */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { show } from '../arguments/kinds.ts';
import type { Backend, BackendFile } from '../backend/backend.ts';
import { FormatError } from '../format/format-error.ts';
import type { GgufHeader } from '../format/gguf.ts';
import { type ModelShape, modelShapeFromConfig, modelShapeFromGguf } from '../format/model-shape.ts';
import { parseJson } from '../format/parse-json.ts';
import type { TensorInfo } from '../format/tensor-info.ts';
import {
  checkIdentity,
  type FileIdentity,
  type FileSource,
  MAX_SIDECAR_BYTES,
  openFileSource,
  readSmallFile,
} from './file-source.ts';

/** A tensor and the file that holds it. */
export interface CheckpointTensor extends TensorInfo {
  /** The safetensors shard or GGUF file; `byteOffset` counts from its start. */
  readonly path: string;
}

/** What the opener found; see the properties of Checkpoint. */
export interface CheckpointParts {
  readonly kind: 'safetensors' | 'gguf';
  readonly path: string;
  readonly directory: string;
  readonly config?: unknown;
  readonly generationConfig?: unknown;
  readonly gguf?: GgufHeader;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly tensors: ReadonlyMap<string, CheckpointTensor>;
  /** The files whose headers were read, by path: later reads are of these or fail. */
  readonly files?: ReadonlyMap<string, FileIdentity>;
}

/** Made by `openCheckpoint`. Holds files open from the first read on: `close()` it, or use `await using`. */
export class Checkpoint {
  readonly kind: 'safetensors' | 'gguf';
  /** As given to `openCheckpoint`. */
  readonly path: string;
  /** The folder the files lie in. */
  readonly directory: string;
  /** config.json, parsed and not validated; undefined for GGUF and where there is none. */
  readonly config: unknown;
  /** generation_config.json, likewise. */
  readonly generationConfig: unknown;
  /**
   * The GGUF header, with the tokenizer in its metadata; undefined for safetensors. Of a model in parts the first one's, with the
   * tensors of all.
   */
  readonly gguf: GgufHeader | undefined;
  /** `__metadata__` of the safetensors file (of the first shard); empty for GGUF. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Every tensor by name. */
  readonly tensors: ReadonlyMap<string, CheckpointTensor>;
  #shape: ModelShape | undefined;
  #closed = false;
  readonly #files: ReadonlyMap<string, FileIdentity>;
  readonly #sources = new Map<string, Promise<FileSource>>();
  readonly #backendFiles = new Map<Backend, Map<string, BackendFile>>();

  /** @internal */
  constructor(parts: CheckpointParts) {
    this.kind = parts.kind;
    this.path = parts.path;
    this.directory = parts.directory;
    this.config = parts.config;
    this.generationConfig = parts.generationConfig;
    this.gguf = parts.gguf;
    this.metadata = parts.metadata ?? {};
    this.tensors = parts.tensors;
    this.#files = parts.files ?? new Map();
  }

  /**
   * The model's shape, from the GGUF header or config.json; worked out at the first read, so that a checkpoint of a model
   * this library does not know can still be inspected.
   * @throws FormatError when there is no config.json, or it contradicts itself
   */
  get shape(): ModelShape {
    this.#shape ??= this.#readShape();
    return this.#shape;
  }

  #readShape(): ModelShape {
    if (this.gguf !== undefined) return modelShapeFromGguf(this.gguf);
    const file = join(this.directory, 'config.json');
    if (this.config === undefined) {
      throw new FormatError(file, undefined, 'expected config.json next to the weights, got none');
    }
    return modelShapeFromConfig(this.config, file);
  }

  /** @throws RangeError when there is no such tensor. */
  tensor(name: string): CheckpointTensor {
    const found = this.tensors.get(name);
    if (found === undefined) {
      throw new RangeError(
        `${this.path}: expected one of its ${this.tensors.size} tensors, got ${show(name)}`,
      );
    }
    return found;
  }

  /**
   * Reads a text file next to the weights, such as `tokenizer.json`.
   * @param name a plain file name
   * @throws RangeError for a name with a folder in it; FormatError for what is no regular file, or larger than 64 MiB
   * @returns the text, or undefined when there is no such file
   */
  async readText(name: string): Promise<string | undefined> {
    if (!isPlainFileName(name))
      throw new RangeError(`readText: expected a plain file name, got ${show(name)}`);
    const bytes = await readSmallFile(join(this.directory, name), MAX_SIDECAR_BYTES);
    return bytes && new TextDecoder().decode(bytes);
  }

  /** As `readText`, parsed. @throws FormatError that names the file when it is no JSON */
  async readJson(name: string): Promise<unknown> {
    const text = await this.readText(name);
    return text === undefined ? undefined : parseJson(join(this.directory, name), text);
  }

  /**
   * Reads a tensor's bytes as stored, whole or a slice of them.
   * @param byteOffset bytes from the start of the tensor
   * @param byteLength to the end of the tensor by default
   * @throws RangeError when there is no such tensor or the slice is not inside it
   * @returns fresh bytes, little-endian
   */
  async readBytes(name: string, byteOffset = 0, byteLength?: number): Promise<Uint8Array> {
    const info = this.tensor(name);
    const length = byteLength ?? info.byteLength - byteOffset;
    checkSlice('readBytes', info, byteOffset, length);
    const source = await this.#source(info.path);
    return source.read(info.byteOffset + byteOffset, length);
  }

  /**
   * Fills `target` with a tensor's bytes from `byteOffset` (bytes from the start of the tensor) on. A reader that reuses one
   * buffer is about as fast as `cp`; with fresh ones a copy took twice that.
   * @throws RangeError when there is no such tensor or the slice is not inside it
   */
  async readInto(name: string, byteOffset: number, target: Uint8Array): Promise<void> {
    const info = this.tensor(name);
    checkSlice('readInto', info, byteOffset, target.byteLength);
    const source = await this.#source(info.path);
    await source.readInto(info.byteOffset + byteOffset, target);
  }

  #source(path: string): Promise<FileSource> {
    this.#checkOpen();
    let source = this.#sources.get(path);
    if (source === undefined) {
      source = openFileSource(path, this.#files.get(path));
      this.#sources.set(path, source);
    }
    return source;
  }

  /**
   * The file as a backend opens it (mapped by the native one), once per backend and file. Storage taken from it outlives `close()`.
   * @internal
   */
  backendFile(backend: Backend, path: string): BackendFile {
    this.#checkOpen();
    let files = this.#backendFiles.get(backend);
    if (files === undefined) {
      files = new Map();
      this.#backendFiles.set(backend, files);
    }
    let file = files.get(path);
    if (file === undefined) {
      file = this.#openBackendFile(backend, path);
      files.set(path, file);
    }
    return file;
  }

  #openBackendFile(backend: Backend, path: string): BackendFile {
    const file = backend.openFile(path);
    const expected = this.#files.get(path);
    try {
      // After it was opened: what is there now is what was opened, or was put there since.
      if (expected) {
        const { dev, ino, mtimeNs } = statSync(path, { bigint: true });
        checkIdentity(path, expected, { dev, ino, mtimeNs, size: BigInt(file.size) });
      }
    } catch (error) {
      file.close();
      throw error;
    }
    return file;
  }

  #checkOpen(): void {
    if (this.#closed) throw new Error(`${this.path}: read after close()`);
  }

  /** Closes the files. Tensors already loaded stay valid. Safe to call twice. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const files of this.#backendFiles.values()) for (const file of files.values()) file.close();
    this.#backendFiles.clear();
    const sources = [...this.#sources.values()];
    this.#sources.clear();
    const settled = await Promise.allSettled(sources);
    for (const result of settled) if (result.status === 'fulfilled') await result.value.close();
  }

  /** As `close()`, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function checkSlice(op: string, info: TensorInfo, byteOffset: number, length: number): void {
  const whole = Number.isSafeInteger(byteOffset) && Number.isSafeInteger(length);
  if (!whole || byteOffset < 0 || length < 0 || byteOffset + length > info.byteLength) {
    throw new RangeError(
      `${op}: ${info.name}: expected a slice of its ${info.byteLength} bytes, got ${length} bytes at ${byteOffset}`,
    );
  }
}

/** True for a name that stays in its folder: names in an index or from a caller must not reach other files. */
export function isPlainFileName(name: string): boolean {
  return name !== '' && name !== '.' && name !== '..' && !/[/\\\0]/.test(name);
}
