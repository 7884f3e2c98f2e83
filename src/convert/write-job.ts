/** What the writers of both formats are told, and what they say. */
import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import type { StorageType } from '../format/storage-type.ts';
import type { DecoderConfig, DecoderNames } from '../models/decoder-config.ts';
import type { LayerMix } from './head-mix.ts';
import type { MixJob } from './mix-tensor.ts';

/** Tensors converted at the same time, so that others are read and written while one is computed: Node's four threads less one that syncs. */
export const AT_ONCE = 3;

export interface WriteJob {
  readonly checkpoint: Checkpoint;
  readonly config: DecoderConfig;
  readonly names: DecoderNames;
  readonly layers: readonly LayerMix[];
  readonly to: string;
  readonly numKeyValueHeads: number;
  readonly seed: number;
  readonly dtype: StorageType | undefined;
  readonly force: boolean;
  /** Called with the bytes that will be written, before any is. */
  readonly space: (bytes: number) => Promise<void>;
  readonly onProgress: ((done: number, total: number) => void) | undefined;
}

export interface Written {
  readonly bytes: number;
  readonly files: readonly string[];
}

/** By new name: a tensor of the old file, and what becomes of it. */
export type GgufPlan = ReadonlyMap<string, Pick<MixJob, 'info' | 'mix'>>;
