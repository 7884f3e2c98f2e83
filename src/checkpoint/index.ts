/**
 * Reads and writes checkpoints: safetensors and GGUF. Paths need Node; a `Folder` works anywhere.
 * @module gqa/checkpoint
 */
export type {
  FileContent,
  FileSource,
  FileWriter,
  Folder,
  FolderEntry,
  OpenedFile,
  Place,
} from '../files/folder.ts';
export type { DirectoryHandle, FileHandle } from '../files/handle-folder.ts';
export { MemoryFolder } from '../files/memory-folder.ts';
export { clearModelCache, type ModelCache, modelCacheSize } from '../files/model-cache.ts';
export type { PlaceIn, PlaceLike } from '../files/place.ts';
export type { ModelSource, SourceOptions } from '../files/source.ts';
export type { FetchModelOptions } from '../files/source-options.ts';
export { FormatError } from '../format/format-error.ts';
export type { GgufHeader, GgufTypedArray, GgufValue } from '../format/gguf.ts';
export type { ModelShape } from '../format/model-shape.ts';
export type { StorageType } from '../format/storage-type.ts';
export type { TensorInfo } from '../format/tensor-info.ts';
export type { Checkpoint, CheckpointTensor } from './checkpoint.ts';
export type { LoadTensorOptions } from './load-tensor.ts';
export { loadTensor, loadTensorAsync } from './load-tensor.ts';
export { loadModule, saveModule } from './module-file.ts';
export { type OpenCheckpointOptions, openCheckpoint } from './open-checkpoint.ts';
export type { ByteChunks, TensorBytes } from './tensor-bytes.ts';
export { type GgufPair, type WriteGgufOptions, writeGguf } from './write-gguf.ts';
export { type WriteSafetensorsOptions, writeSafetensors } from './write-safetensors.ts';
