/// <reference lib="esnext.disposable" preserve="true" />
/**
 * An opened checkpoint: the checked headers of its files, and access to the tensors' bytes. One class for all
 * formats; what differs between them is in `CheckpointFormat`.
 */
import { show } from '../arguments/kinds.ts';
import { type FileSource, type Folder, isPlainFileName, type Place, readSmallText } from '../files/folder.ts';
import type { GgufHeader } from '../format/gguf.ts';
import type { GgufPair } from '../format/gguf-value.ts';
import type { KeyReader } from '../format/key-reader.ts';
import type { ModelShape } from '../format/model-shape.ts';
import { parseJson } from '../format/parse-json.ts';
import type { StorageType } from '../format/storage-type.ts';
import type { TensorInfo } from '../format/tensor-info.ts';
import type { Tokenizer } from '../text/tokenizer.ts';
import { BackendFiles } from './backend-files.ts';
import type { TensorBytes } from './tensor-bytes.ts';
import type { TrainRecipe } from './training-recipe.ts';

/** A tensor and the file that holds it. */
export interface CheckpointTensor extends TensorInfo {
  /** The safetensors shard or GGUF file; `byteOffset` counts from its start. */
  readonly path: string;
}

/** What a format's `open` returns; see the properties of Checkpoint. */
export interface CheckpointParts {
  readonly folder: Folder;
  /** The file that was opened: the weights, the index of their shards, or the first part. */
  readonly file: string;
  readonly config?: unknown;
  readonly generationConfig?: unknown;
  readonly gguf?: GgufHeader;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly tensors: ReadonlyMap<string, CheckpointTensor>;
  /**
   * What the tensors' `byteOffset` counts in; the `name` of each is the `path` of its tensors. A format that
   * decodes its file gives the result as a file in memory.
   */
  readonly files?: readonly FileSource[];
}

/** The contents of a checkpoint to be written. A format ignores those that it cannot store. */
export interface CheckpointContents {
  /** By name, in file order. */
  readonly tensors: ReadonlyMap<string, TensorBytes>;
  /** config.json */
  readonly config?: Readonly<Record<string, unknown>>;
  /** `__metadata__` of safetensors. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Metadata of GGUF. */
  readonly keys?: ReadonlyMap<string, GgufPair>;
  /** Files that are copied with the weights, by name, which may be a path below the folder. */
  readonly files?: ReadonlyMap<string, Uint8Array>;
  readonly recipe?: TrainRecipe;
  /** The file name of each tensor, for a checkpoint of several files. */
  readonly shards?: ReadonlyMap<string, string>;
  /** Tensors written at the same time; default 1. */
  readonly concurrency?: number;
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
  /** Types in which all weights can be written. */
  readonly dtypes: readonly StorageType[];
  /** The ending of a checkpoint that is one file; undefined where it is a folder. */
  readonly ending: string | undefined;

  /**
   * Whether a file is of this format.
   * @param name counts too, for files with damaged content
   * @param start its first bytes
   */
  recognises(name: string, start: Uint8Array): boolean;
  /** The file to open in a folder; undefined when there is none. @throws Error when there are several */
  find(folder: Folder, names: readonly string[]): Promise<string | undefined>;
  /** Reads the headers. @throws FormatError when one is damaged, or a file is missing */
  open(folder: Folder, file: string): Promise<CheckpointParts>;
  /** The keys that describe the model. @throws FormatError when the config is missing */
  keys(checkpoint: Checkpoint): KeyReader;
  /** @throws FormatError when the config is missing, or contradicts itself */
  shape(checkpoint: Checkpoint): ModelShape;
  /**
   * Reads the tokenizer's files. Its code, a third of the package, is loaded only when there is a tokenizer.
   */
  text(checkpoint: Checkpoint): Promise<TextParts>;
  /**
   * How the model was trained; undefined when that is not stored.
   * @throws FormatError with the wrong value
   */
  recipe(checkpoint: Checkpoint): Promise<TrainRecipe | undefined>;
  /** All contents but the tensors, for writing the checkpoint again with f32 weights. */
  contents(
    checkpoint: Checkpoint,
    model: { readonly tiedEmbeddings: boolean },
  ): Promise<Omit<CheckpointContents, 'tensors'>>;
  /**
   * Writes a checkpoint into an existing folder.
   * @param file the name of a checkpoint that is one file
   * @returns the names of its files
   */
  write(folder: Folder, contents: CheckpointContents, file?: string): Promise<readonly string[]>;
}

/** Made by `openCheckpoint`. Keeps files open after the first read: `close()` it, or use `await using`. */
export class Checkpoint {
  /** @internal */
  readonly format: CheckpointFormat;
  /** As given to `openCheckpoint`. */
  readonly path: string;
  /** The folder of the files. */
  readonly folder: Folder;
  /** @internal See `CheckpointParts`. */
  readonly file: string;
  /** What was opened: the folder, or the file. @internal */
  readonly place: Place;
  /** config.json, parsed and not validated; undefined for GGUF, or when there is none. */
  readonly config: unknown;
  /** generation_config.json, likewise. */
  readonly generationConfig: unknown;
  /**
   * The GGUF header, with the tokenizer in its metadata; undefined for safetensors. For a model in parts it
   * is the header of the first part, with the tensors of all parts.
   */
  readonly gguf: GgufHeader | undefined;
  /** `__metadata__` of the safetensors file (of the first shard); empty for GGUF. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Every tensor by name. */
  readonly tensors: ReadonlyMap<string, CheckpointTensor>;
  #shape: ModelShape | undefined;
  #closed = false;
  readonly #files: ReadonlyMap<string, FileSource>;
  readonly #backendFiles: BackendFiles;

  /** @internal */
  constructor(format: CheckpointFormat, place: Place, parts: CheckpointParts) {
    this.format = format;
    this.place = place;
    this.path = place.file === undefined ? place.folder.name : place.folder.nameOf(place.file);
    this.folder = parts.folder;
    this.file = parts.file;
    this.config = parts.config;
    this.generationConfig = parts.generationConfig;
    this.gguf = parts.gguf;
    this.metadata = parts.metadata ?? {};
    this.tensors = parts.tensors;
    this.#files = new Map(parts.files?.map((file) => [file.name, file]));
    this.#backendFiles = new BackendFiles(this.#files);
  }

  /** The format of its files: `safetensors` or `gguf`. */
  get kind(): string {
    return this.format.kind;
  }

  /** The name of the folder in errors, such as its path. */
  get directory(): string {
    return this.folder.name;
  }

  /**
   * The model's shape, from the GGUF header or config.json. It is read on first use, so that a checkpoint of
   * an unknown model can still be opened.
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
   * @throws RangeError for a name with a folder in it; FormatError for what is no regular file, or larger
   * than 64 MiB
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
   * Fills `target` with bytes of a tensor. Copying a file through one reused buffer is about as fast as `cp`,
   * and takes twice as long with new buffers.
   * @param byteOffset bytes from the start of the tensor
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

  /** The files as backends read them. @internal */
  get backendFiles(): BackendFiles {
    this.#checkOpen();
    return this.#backendFiles;
  }

  /** Whether its files are bytes in memory. @internal */
  get isInMemory(): boolean {
    return [...this.#files.values()].some(({ bytes }) => bytes !== undefined);
  }

  #checkOpen(): void {
    if (this.#closed) throw new Error(`${this.path}: read after close()`);
  }

  /** Closes the files. Tensors already loaded stay valid. Safe to call twice. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#backendFiles.close();
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
