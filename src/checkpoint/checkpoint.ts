/// <reference lib="esnext.disposable" preserve="true" />
/**
 * An opened checkpoint: the headers of its files, parsed and checked, and access to the bytes behind them. One type for
 * safetensors (one file or shards) and GGUF, so that converters and models need not care which it was.
 */
import { show } from '../arguments/kinds.ts';
import type { Backend, BackendFile } from '../backend/backend.ts';
import { checkFileRange } from '../backend/memory-range.ts';
import { type FileSource, type Folder, isPlainFileName, readSmallText } from '../files/folder.ts';
import type { GgufHeader } from '../format/gguf.ts';
import type { GgufPair } from '../format/gguf-value.ts';
import type { KeyReader } from '../format/key-reader.ts';
import type { ModelShape } from '../format/model-shape.ts';
import { parseJson } from '../format/parse-json.ts';
import type { StorageType } from '../format/storage-type.ts';
import type { TensorInfo } from '../format/tensor-info.ts';
import type { Tokenizer } from '../text/tokenizer.ts';
import type { TensorBytes } from './tensor-bytes.ts';
import type { TrainRecipe } from './training-recipe.ts';

/** A tensor and the file that holds it. */
export interface CheckpointTensor extends TensorInfo {
  /** The safetensors shard or GGUF file; `byteOffset` counts from its start. */
  readonly path: string;
}

/** What a format's `open` found; see the properties of Checkpoint. */
export interface CheckpointParts {
  readonly folder: Folder;
  readonly config?: unknown;
  readonly generationConfig?: unknown;
  readonly gguf?: GgufHeader;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly tensors: ReadonlyMap<string, CheckpointTensor>;
  /** The files whose headers were read. */
  readonly files?: readonly FileSource[];
}

/** What a checkpoint is written with. A format leaves out what it has no place for. */
export interface CheckpointContents {
  /** By name, in file order. */
  readonly tensors: ReadonlyMap<string, TensorBytes>;
  /** config.json */
  readonly config?: Readonly<Record<string, unknown>>;
  /** `__metadata__` of safetensors. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Metadata of GGUF. */
  readonly keys?: ReadonlyMap<string, GgufPair>;
  /** Files that travel with the weights, by name; one may have a folder in it. */
  readonly files?: ReadonlyMap<string, Uint8Array>;
  readonly recipe?: TrainRecipe;
  /** The file of each tensor, where there are several. */
  readonly shards?: ReadonlyMap<string, string>;
  /** Tensors written at the same time; default 1. */
  readonly atOnce?: number;
}

/** The tokenizer and the end tokens of a checkpoint. */
export interface TextParts {
  /** Parses the tokenizer's files and builds it, which is slow; undefined when there is none. */
  readonly makeTokenizer?: () => Tokenizer;
  /** `model.endTokenIds` and `tokenizer.eosTokenIds`. */
  readonly endTokenIds: readonly number[];
}

/** A checkpoint format: everything that differs between safetensors and GGUF. */
export interface CheckpointFormat {
  /** Its name, such as `safetensors` or `gguf`. */
  readonly kind: string;
  /** The naming scheme of its tensors and keys. */
  readonly names: 'huggingFace' | 'gguf';
  /** Types that all weights can be written in. */
  readonly dtypes: readonly StorageType[];
  /** The ending of the file that a whole checkpoint is; undefined where it is a folder of files. */
  readonly ending: string | undefined;

  /** @param start the first bytes of a file @param name of it, for a file whose content is damaged */
  recognises(name: string, start: Uint8Array): boolean;
  /** The file by which a folder is opened; undefined when there is none. @throws Error when there are several */
  find(folder: Folder, names: readonly string[]): Promise<string | undefined>;
  /** Reads the headers. @throws FormatError when one is damaged, or a file is missing */
  open(folder: Folder, file: string): Promise<CheckpointParts>;
  /** The keys that describe the model. @throws FormatError when the config is missing */
  keys(checkpoint: Checkpoint): KeyReader;
  /** @throws FormatError when the config is missing, or contradicts itself */
  shape(checkpoint: Checkpoint): ModelShape;
  /** Reads the tokenizer's files. Its code, a third of the package, is loaded only when there is a tokenizer. */
  text(checkpoint: Checkpoint): Promise<TextParts>;
  /** The recipe that a checkpoint carries; undefined when it carries none. @throws FormatError naming the value that is wrong */
  recipe(checkpoint: Checkpoint): Promise<TrainRecipe | undefined>;
  /** All but the tensors, to write the checkpoint of a model again with weights in f32. */
  contents(
    checkpoint: Checkpoint,
    model: { readonly tiedEmbeddings: boolean },
  ): Promise<Omit<CheckpointContents, 'tensors'>>;
  /**
   * Writes a checkpoint into an existing folder.
   * @param file the name of the checkpoint, where it is one file
   * @returns the names of its files
   */
  write(folder: Folder, contents: CheckpointContents, file?: string): Promise<readonly string[]>;
}

/** Made by `openCheckpoint`. Holds files open from the first read on: `close()` it, or use `await using`. */
export class Checkpoint {
  /** @internal */
  readonly format: CheckpointFormat;
  /** As given to `openCheckpoint`. */
  readonly path: string;
  /** The folder the files lie in. */
  readonly folder: Folder;
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
  readonly #files: ReadonlyMap<string, FileSource>;
  readonly #backendFiles = new Map<Backend, Map<string, BackendFile>>();

  /** @internal */
  constructor(format: CheckpointFormat, path: string, parts: CheckpointParts) {
    this.format = format;
    this.path = path;
    this.folder = parts.folder;
    this.config = parts.config;
    this.generationConfig = parts.generationConfig;
    this.gguf = parts.gguf;
    this.metadata = parts.metadata ?? {};
    this.tensors = parts.tensors;
    this.#files = new Map(parts.files?.map((file) => [file.name, file]));
  }

  /** The format of its files: `safetensors` or `gguf`. */
  get kind(): string {
    return this.format.kind;
  }

  /** What errors call the folder the files lie in: its path, where it has one. */
  get directory(): string {
    return this.folder.name;
  }

  /**
   * The model's shape, from the GGUF header or config.json; worked out at the first read, so that a checkpoint of a model
   * this library does not know can still be inspected.
   * @throws FormatError when there is no config.json, or it contradicts itself
   */
  get shape(): ModelShape {
    this.#shape ??= this.format.shape(this);
    return this.#shape;
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
    return readSmallText(this.folder, name);
  }

  /** As `readText`, parsed. @throws FormatError that names the file when it is no JSON */
  async readJson(name: string): Promise<unknown> {
    const text = await this.readText(name);
    return text === undefined ? undefined : parseJson(this.folder.nameOf(name), text);
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
    const bytes = new Uint8Array(length);
    await this.#file(info.path).readInto(info.byteOffset + byteOffset, bytes);
    return bytes;
  }

  /**
   * Fills `target` with a tensor's bytes from `byteOffset` (bytes from the start of the tensor) on. A reader that reuses one
   * buffer is about as fast as `cp`; with fresh ones a copy took twice that.
   * @throws RangeError when there is no such tensor or the slice is not inside it
   */
  async readInto(name: string, byteOffset: number, target: Uint8Array): Promise<void> {
    const info = this.tensor(name);
    checkSlice('readInto', info, byteOffset, target.byteLength);
    await this.#file(info.path).readInto(info.byteOffset + byteOffset, target);
  }

  #file(path: string): FileSource {
    this.#checkOpen();
    return this.#files.get(path) as FileSource;
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
      const source = this.#file(path);
      file = source.openByPath?.((at) => backend.openFile(at)) ?? fileInMemory(backend, source);
      files.set(path, file);
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
    await Promise.all([...this.#files.values()].map((file) => file.close()));
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

/** A file without a path: a backend gets copies of its bytes. */
function fileInMemory(backend: Backend, { name, size, bytes }: FileSource): BackendFile {
  if (bytes === undefined) throw new Error(`${name}: expected a file with a path, or one in memory`);
  return {
    size,
    storage(byteOffset, byteLength) {
      checkFileRange(name, size, byteOffset, byteLength);
      const storage = backend.allocate(byteLength);
      backend.write(storage, bytes.subarray(byteOffset, byteOffset + byteLength));
      return storage;
    },
    close() {},
  };
}
