/** Part 4: uptraining of the converted model, with its loss as it falls. */
import { computed, signal } from '@preact/signals';
import { planKvCache } from 'gqa/plan';
import { numberParam, wholeParam } from '../address.ts';
import { engine, working } from '../engine.ts';
import { count, nats } from '../format.ts';
import { converted, facts, losses, ownHeads, prompt, revision, trainedSteps, work } from '../state.ts';
import { bound, Part, Slider } from '../ui.tsx';
import type { TrainStep } from '../worker/recover.ts';
import { speeds } from './cache.tsx';
import { LossChart } from './loss-chart.tsx';

const STEPS = [50, 100, 200, 300, 400, 600, 1000];
export const steps = wholeParam('steps', 300, 1, 100000);
const RATES = [0.0001, 0.0003, 0.001, 0.002, 0.004];
export const rate = numberParam('rate', 0.001, 0, 1);
const TOKENS_PER_STEP = 256;
/** Tokens of a block: Stop ends training after one, so they are shorter for a large model. */
export const blockLength = computed(() =>
  Math.min(facts.value?.isSmall ? 256 : 64, facts.value?.context ?? TOKENS_PER_STEP),
);
export const blocksPerStep = computed(() => Math.ceil(TOKENS_PER_STEP / blockLength.value));

/** The run so far. */
const run = signal<readonly TrainStep[]>([]);
const sample = signal<{ readonly step: number; readonly text: string } | undefined>(undefined);

// A large model takes long for a step, and was trained with larger batches.
facts.subscribe((model) => {
  if (model === undefined || model.isSmall) return;
  steps.value = 50;
  rate.value = 0.0001;
});

// Another conversion ends the run of the one before.
converted.subscribe(() => {
  run.value = [];
  sample.value = undefined;
});

async function uptrain(): Promise<void> {
  const stop = new AbortController();
  await working('Training', async () => {
    work.value = { what: 'Training', stop: () => stop.abort() };
    const choice = {
      ...{ steps: steps.value, learningRate: rate.value, prompt: prompt.value },
      ...{ blockLength: blockLength.value, blocksPerStep: blocksPerStep.value },
    };
    try {
      for await (const step of engine.uptrain(choice, stop.signal)) {
        run.value = [...run.value, step];
        trainedSteps.value = step.step;
        if (step.heldOutLoss === undefined) continue;
        losses.value = { ...losses.value, uptrained: step.heldOutLoss };
        if (step.sample !== undefined) sample.value = { step: step.step, text: step.sample };
        revision.value++;
      }
    } finally {
      revision.value++;
    }
  });
}

async function reset(): Promise<void> {
  await working('Going back to the converted model', async () => {
    await engine.resetRun();
    run.value = [];
    sample.value = undefined;
    trainedSteps.value = 0;
    losses.value = { ...losses.value, uptrained: undefined };
    revision.value++;
  });
}

export function RecoverPart() {
  const isTraining = work.value?.what === 'Training';
  const isIdle = work.value === undefined;
  const done = trainedSteps.value;
  const last = run.value.at(-1);
  const isComplete = done >= steps.value;
  const canTrain = converted.value !== undefined;
  return (
    <Part
      name="Recover"
      about="Further training (“uptraining”) lets the query heads adapt to the key/value heads that they now share. The training text is Moby-Dick, or a .txt file that you drop on the page; the loss is measured on its last tenth, which is held out."
    >
      <div class="row actions">
        <button
          type="button"
          class="main"
          disabled={!canTrain || !isIdle || isComplete}
          onClick={() => void uptrain()}
        >
          {done > 0 && !isComplete ? 'Go on' : 'Uptrain'}
        </button>
        <button type="button" disabled={!isTraining} onClick={() => work.value?.stop?.()}>
          Stop
        </button>
        <button type="button" disabled={!isIdle || done === 0} onClick={() => void reset()}>
          Reset
        </button>
        <Slider
          label="Steps"
          values={STEPS}
          {...bound(steps)}
          text={(value) => `${value}, each of ${blocksPerStep.value * blockLength.value} tokens`}
          disabled={isTraining || done > 0}
        />
        <Slider
          label="Learning rate"
          values={RATES}
          {...bound(rate)}
          text={String}
          disabled={isTraining || done > 0}
        />
      </div>
      {last && (
        <p class="note">
          Step {last.step} of {steps.value}, {(last.seconds / last.step).toFixed(2)} s each.
        </p>
      )}
      {!canTrain && (
        <p class="note">Convert to fewer key/value heads first: the original needs no uptraining.</p>
      )}
      {canTrain && (
        <LossChart
          run={run.value}
          steps={steps.value}
          original={losses.value.original}
          converted={losses.value.converted}
        />
      )}
      {sample.value && (
        <p class="written sample">
          <span class="given">After {sample.value.step} steps: </span>
          <span class="given">{prompt.value}</span>
          {sample.value.text}
        </p>
      )}
      {canTrain && <Result />}
    </Part>
  );
}

/** The table of the demo. */
function Result() {
  const { original, converted: after, uptrained } = losses.value;
  const shape = facts.value?.shape;
  const K = converted.value?.numKeyValueHeads ?? 1;
  if (shape === undefined) return null;
  const row = (heads: number, cells: readonly (number | undefined)[]) => {
    const plan = planKvCache(shape, { kvDtype: 'f32', contextLength: 1, numKeyValueHeads: heads });
    const speed = speeds.value.find((one) => one.numKeyValueHeads === heads);
    return (
      <tr>
        <th scope="row">{heads}</th>
        {cells.map((loss, i) => (
          <td key={i}>{loss === undefined ? '–' : nats(loss)}</td>
        ))}
        <td>{count(plan.bytesPerToken)}</td>
        <td>{speed === undefined ? '–' : count(Math.round(speed.tokensPerSecond))}</td>
      </tr>
    );
  };
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls must be reached by the keyboard
    <section class="wide" aria-label="Result" tabIndex={0}>
      <table>
        <thead>
          <tr>
            <th scope="col">Key/value heads</th>
            <th scope="col">Loss before</th>
            <th scope="col">Converted</th>
            <th scope="col">Uptrained</th>
            <th scope="col">Cache bytes per token</th>
            <th scope="col">Tokens per second</th>
          </tr>
        </thead>
        <tbody>
          {row(ownHeads.value, [original, undefined, undefined])}
          {row(K, [original, after, uptrained])}
        </tbody>
      </table>
      <p class="note">Loss in nats per token. Tokens per second come from “Measure” in the part Cache.</p>
    </section>
  );
}
