/** `gqa/train`: optimisers, schedules, the loss of language models, and models whose weights are parameters. */
export type { RunRecord, TrainRecipe, TrainSettings } from '../checkpoint/training-recipe.ts';
export { type LlamaSizes, llamaConfig } from '../models/llama-config.ts';
export {
  type CreateModelOptions,
  createModel,
  loadTrainableModel,
  type TrainableModel,
} from '../models/trainable-model.ts';
export { causalLmLoss, type LanguageModel } from './causal-lm-loss.ts';
export { evaluateTokens, type TextLoss } from './evaluate-text.ts';
export { Optimizer } from './optimizer.ts';
export { type AdamwOptions, adamw, clipByGlobalNorm, globalNorm, multiSteps, sgd } from './optimizers.ts';
export {
  constantSchedule,
  cosineDecaySchedule,
  linearSchedule,
  type ScalarOrSchedule,
  type Schedule,
  warmupCosineDecaySchedule,
} from './schedules.ts';
export { drawBatch, splitTokens, type TokenSplit } from './token-data.ts';
export { DivergedError, Trainer, type TrainerOptions, type TrainerSettings } from './trainer.ts';
export { type Metric, RunConflictError, type RunOptions, type RunResult } from './training-run.ts';
export { chain, type Tensors, type Transformation, type TransformationState } from './transformation.ts';
export { type UptrainOptions, type UptrainResult, uptrain } from './uptrain.ts';
