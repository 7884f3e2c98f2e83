/** The formats of checkpoints, in the order in which a folder is searched for them. */
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
