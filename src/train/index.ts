/**
 * Optimisers, schedules, the loss of language models, and models whose weights are parameters.
 * @module gqa/train
 */
export type { RunRecord, TrainRecipe, TrainSettings } from '../checkpoint/training-recipe.ts';
export { type LlamaSizes, llamaConfig } from '../models/llama-config.ts';
export {
  type CreateModelOptions,
  createModel,
  type LoadTrainableModelOptions,
  loadTrainableModel,
  type TrainableModel,
} from '../models/trainable-model.ts';
export { causalLmLoss, type LanguageModel } from './causal-lm-loss.ts';
export { type EvaluateOptions, evaluateTokens, type TextLoss } from './evaluate-text.ts';
export { Optimizer } from './optimizer.ts';
export { loadOptimizer, saveOptimizer } from './optimizer-file.ts';
export {
  type AdamwOptions,
  adamw,
  clipByGlobalNorm,
  globalNorm,
  multiSteps,
  type SgdOptions,
  sgd,
} from './optimizers.ts';
export { RunConflictError } from './run-identity.ts';
export {
  type CosineDecayScheduleOptions,
  constantSchedule,
  cosineDecaySchedule,
  type LinearScheduleOptions,
  linearSchedule,
  type ScalarOrSchedule,
  type Schedule,
  type WarmupCosineDecayScheduleOptions,
  warmupCosineDecaySchedule,
} from './schedules.ts';
export type { TeacherChoice } from './teacher.ts';
export {
  type BatchStream,
  type DrawBatchOptions,
  drawBatch,
  splitTokens,
  type TokenSplit,
} from './token-data.ts';
export {
  type AdvanceOptions,
  DivergedError,
  Trainer,
  type TrainerOptions,
  type TrainerSettings,
} from './trainer.ts';
export type { Metric, RunOptions, RunResult } from './training-run.ts';
export { chain, type Tensors, type Transformation, type TransformationState } from './transformation.ts';
export { type UptrainOptions, type UptrainResult, uptrain } from './uptrain.ts';
