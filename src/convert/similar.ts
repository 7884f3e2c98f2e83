import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import type { DecoderDescription } from '../models/families/family.ts';
import type { LayerMix } from './head-mix.ts';
export async function similarMixes(
  checkpoint: Checkpoint,
  description: DecoderDescription,
  after: number,
  calibration: string | undefined,
): Promise<LayerMix[]> {
  throw new Error(`not yet ${checkpoint.path} ${description.config.modelType} ${after} ${calibration}`);
}
