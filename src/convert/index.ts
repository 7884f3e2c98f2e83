/**
 * Conversion of checkpoints to fewer (or more) key/value heads, and the drift report. Paths need Node;
 * a `Folder` works anywhere.
 * @module gqa/convert
 */
export {
  type ChooseKeyValueHeadsOptions,
  chooseKeyValueHeads,
  type KeyValueHeadsChoice,
  type KeyValueHeadsTrial,
} from './choose-key-value-heads.ts';
export {
  type ConvertMethod,
  type ConvertOptions,
  type ConvertPhase,
  type ConvertResult,
  convertCheckpoint,
} from './convert-checkpoint.ts';
export type { DistillOptions } from './distill-settings.ts';
export {
  type DriftOptions,
  type DriftReport,
  type LayerDrift,
  measureDrift,
} from './drift.ts';
export type { HeadMix, HeadSource, LayerMix, LayerWeights, PoolingMethod } from './head-mix.ts';
export type { TextDrift } from './logit-drift.ts';
export type { AnswerDrift } from './model-answers.ts';
