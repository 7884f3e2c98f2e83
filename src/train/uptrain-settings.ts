/**
 * The settings of uptraining: the checkpoint's own recipe if it has one, defaults otherwise.
 *
 * The paper continues with the original recipe for alpha times the original steps. Its models (T5) use a
 * learning rate of 1 / sqrt(step), which changes little in another 5 %. A cosine schedule is at its minimum
 * by then, where a few steps recover little, so here the schedule restarts: warm-up to the peak, then decay.
 * A small GPT (1,200 steps, N = 6, alpha 0.05) reached 2.07 nats at K = 1 this way, 2.12 with half of the
 * peak and 2.23 at the final rate; at K = 3, 1.81, 1.81 and 1.86. Moments start at zero: checkpoints do not
 * hold them, and they would not fit merged heads. The warm-up keeps the first steps small.
 *
 * Source: Ainslie et al., GQA (arXiv 2305.13245), sections 2.1 and 3.1; re-warming: Ibrahim et al. 2024
 * (arXiv 2403.08763).
 */

import { aNumber } from '../arguments/kinds.ts';
import { checkOptions, type OptionKinds, optionKinds } from '../arguments/options.ts';
import type { TrainRecipe, TrainSettings } from '../checkpoint/training-recipe.ts';
import { checkShare } from './checks.ts';
import { TRAINER_KINDS, trainerSettings } from './trainer.ts';

/** The paper's main setting. */
export const DEFAULT_ALPHA = 0.05;

/** The caller's settings; the recipe gives all others. */
export type UptrainChoice = Partial<Omit<TrainSettings, 'firstBatch'>> & {
  /**
   * Share of the steps that the model was trained for; default 0.05. Needs a checkpoint that records that
   * number; `steps` takes precedence.
   */
  readonly alpha?: number;
};

const { firstBatch: _, ...TRAINED } = TRAINER_KINDS;
/** The kinds of what may be chosen. */
export const CHOICE_KINDS: OptionKinds<UptrainChoice> = { ...TRAINED, validation: aNumber, alpha: aNumber };
const OPTIONS = optionKinds<UptrainChoice>(CHOICE_KINDS);

/**
 * For checkpoints without a recipe: small enough for a laptop, and with a low learning rate, since such
 * weights were usually trained with far larger batches.
 */
export const ELSEWHERE: Readonly<
  Omit<TrainSettings, 'steps' | 'minLearningRate' | 'warmupSteps' | 'firstBatch'>
> = {
  batchSize: 4,
  blockLength: 256,
  accumulate: 1,
  learningRate: 1e-4,
  weightDecay: 0.1,
  b1: 0.9,
  b2: 0.95,
  clip: 1,
  dropout: 0,
  seed: 1337,
  evaluationBatches: 20,
  validation: 0.1,
};

/**
 * @param recipe what the checkpoint carries
 * @param context longest block the model takes
 * @throws RangeError when `steps` is not given and the checkpoint does not record its training steps, and for
 * numbers out of range
 */
export function uptrainSettings(
  recipe: TrainRecipe | undefined,
  choice: UptrainChoice,
  context: number,
): TrainSettings {
  checkOptions('uptrainSettings', choice, OPTIONS);
  const { alpha, steps: chosenSteps, ...chosen } = choice;
  const steps = chosenSteps ?? alphaSteps(recipe, alpha ?? DEFAULT_ALPHA);
  const run = recipe?.training ?? recipe?.uptraining.at(-1);
  const base = run?.settings ?? { ...ELSEWHERE, blockLength: Math.min(ELSEWHERE.blockLength, context) };
  const given = Object.fromEntries(Object.entries(chosen).filter(([, value]) => value !== undefined));
  const learningRate = chosen.learningRate ?? base.learningRate;
  const end = run && chosen.learningRate === undefined ? run.settings.minLearningRate : learningRate / 10;
  const settings: TrainSettings = {
    ...base,
    learningRate,
    minLearningRate: Math.min(end, learningRate),
    warmupSteps: Math.min(100, Math.floor(steps / 10)),
    ...given,
    steps,
    firstBatch: recipe ? batchesDrawn(recipe) : 0,
  };
  checkShare('uptrain', 'validation', settings.validation);
  const checked = { ...trainerSettings(settings), validation: settings.validation };
  if (settings.blockLength > context) {
    throw new RangeError(
      `uptrain: expected a block within the model's context of ${context} tokens, got ${settings.blockLength}`,
    );
  }
  return checked;
}

/** Whole steps, one at least. */
function alphaSteps(recipe: TrainRecipe | undefined, alpha: number): number {
  if (!(alpha > 0 && alpha < Number.POSITIVE_INFINITY)) {
    throw new RangeError(`uptrain: expected alpha above 0, got ${alpha}`);
  }
  if (recipe?.training === undefined) {
    throw new RangeError(
      `uptrain: expected { steps }, since the checkpoint does not record its training steps, which alpha=${alpha} is a share of (those of gqa train do)`,
    );
  }
  return Math.max(1, Math.round(alpha * recipe.training.step));
}

/** Batches drawn from the text so far, so that the next run of the same recipe continues after them. */
function batchesDrawn({ training, uptraining }: TrainRecipe): number {
  const runs = [...(training ? [training] : []), ...uptraining];
  return runs.reduce((sum, { step, settings }) => sum + step * settings.accumulate, 0);
}
