/** The formats of checkpoints. The first in a folder is taken; of a file's format the last is asked first, since GGUF has a magic number. */
import type { CheckpointFormat } from './checkpoint.ts';
import { ggufCheckpoint } from './gguf-checkpoint.ts';
import { safetensorsCheckpoint } from './safetensors-checkpoint.ts';

export const FORMATS: readonly CheckpointFormat[] = [safetensorsCheckpoint, ggufCheckpoint];

/** What a checkpoint of that name is written as: by its ending one file, else a folder. */
export function formatNamed(path: string): CheckpointFormat {
  const name = path.toLowerCase();
  const byEnding = FORMATS.find(({ ending }) => ending !== undefined && name.endsWith(ending));
  return byEnding ?? safetensorsCheckpoint;
}
