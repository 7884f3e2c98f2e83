/** The formats of checkpoints, in the order in which a folder is searched for them. */
import type { CheckpointFormat } from './checkpoint.ts';
import { ggufCheckpoint } from './gguf-checkpoint.ts';
import { safetensorsCheckpoint } from './safetensors-checkpoint.ts';

export const FORMATS: readonly CheckpointFormat[] = [safetensorsCheckpoint, ggufCheckpoint];

/**
 * The format of a checkpoint to be written: the one whose ending the path has, else a folder of safetensors.
 */
export function formatNamed(path: string): CheckpointFormat {
  const name = path.toLowerCase();
  const byEnding = FORMATS.find(({ ending }) => ending !== undefined && name.endsWith(ending));
  return byEnding ?? safetensorsCheckpoint;
}
