/**
 * What a checkpoint is uptrained with: its own recipe where it carries one, stated defaults where it does
 * not.
 *
 * The paper goes on with the original recipe for alpha of the original steps. Its models (T5) were trained
 * with a learning rate of 1 / sqrt(step), which hardly moves in another 5 %. A cosine has come to its end by
 * then, and staying there recovers little in a few steps: so the schedule runs once more, up to the peak and
 * down to the end. A small GPT (1,200 steps, N = 6, alpha 0.05) came to 2.07 nats at K = 1 so, to 2.12 with
 * half of the peak and to 2.23 at the end rate; at K = 3 to 1.81, 1.81 and 1.86. Moments are not part of a
 * checkpoint, and those of pooled heads would mean nothing: they begin anew, and the warm-up shields the
 * weights from their first steps.
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

/** What the caller chose; everything else follows from the recipe. */
export type UptrainChoice = Partial<Omit<TrainSettings, 'firstBatch'>> & {
  /**
   * Share of the steps that the model was trained for; default 0.05. Only for a checkpoint that says how many
   * those were; `steps` goes before it.
   */
  readonly alpha?: number;
};

const { firstBatch: _, ...TRAINED } = TRAINER_KINDS;
/** The kinds of what may be chosen. */
export const CHOICE_KINDS: OptionKinds<UptrainChoice> = { ...TRAINED, validation: aNumber, alpha: aNumber };
const OPTIONS = optionKinds<UptrainChoice>(CHOICE_KINDS);

/**
 * For checkpoints trained elsewhere: small enough for a laptop and for weights that took a far larger batch
 * to train.
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
 * @throws RangeError when neither `steps` is given nor the checkpoint says what alpha is a share of, and for
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
      `uptrain: expected { steps }, since the checkpoint does not say how many steps alpha=${alpha} is a share of (those of gqa train do)`,
    );
  }
  return Math.max(1, Math.round(alpha * recipe.training.step));
}

/** Batches drawn from the text so far: where the next run of the same recipe goes on. */
function batchesDrawn({ training, uptraining }: TrainRecipe): number {
  const runs = [...(training ? [training] : []), ...uptraining];
  return runs.reduce((sum, { step, settings }) => sum + step * settings.accumulate, 0);
}
