/** The options of `gqa train`, as commander hands them over. */
import type { BackendName } from '../backend/index.ts';

export interface TrainFlags {
  readonly data: string;
  readonly out: string;
  readonly tokenizer?: string;
  readonly layers: number;
  readonly dim: number;
  readonly heads: number;
  readonly kvHeads?: number;
  readonly block: number;
  readonly batch: number;
  readonly accumulate: number;
  readonly steps: number;
  readonly learningRate: number;
  readonly minLearningRate?: number;
  readonly warmup?: number;
  readonly weightDecay: number;
  readonly beta2: number;
  readonly clip: number;
  readonly seed: number;
  readonly validation: number;
  readonly evalEvery: number;
  readonly evalBatches: number;
  readonly saveEvery?: number;
  readonly keep: number;
  readonly resume?: true;
  readonly backend?: BackendName;
  readonly threads?: number;
  readonly json?: true;
}
