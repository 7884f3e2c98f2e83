/** The choice of key/value heads, and what it costs and saves; stays in view. */
import { planKvCache } from 'gqa/plan';
import { choose, convert } from '../engine.ts';
import { count, nats } from '../format.ts';
import {
  chosenMethod,
  converted,
  facts,
  heads,
  losses,
  METHODS,
  needsConversion,
  ownHeads,
  problem,
  work,
} from '../state.ts';
import { Choice, Problem, Slider } from '../ui.tsx';

export function Controls() {
  const model = facts.value;
  const choices = model?.heads ?? [6, 3, 2, 1];
  const isTraining = work.value?.what === 'Training';
  const isIdle = work.value === undefined;
  return (
    <aside class="controls" aria-label="Conversion">
      <Slider
        label="Key/value heads"
        values={choices}
        value={heads.value}
        text={(value) => (value === 0 ? '' : `${value}`)}
        onChange={(value) => choose(value, chosenMethod.value)}
        hasTicks={choices.length < 9}
        disabled={isTraining}
      />
      <Choice
        label="Merged by"
        values={METHODS}
        value={chosenMethod.value}
        onChange={(method) => choose(heads.value, method)}
        disabled={isTraining}
      />
      {/* A small model is converted as the slider moves, unless that was stopped. */}
      {needsConversion.value && (isIdle || !model?.isSmall) && (
        <button type="button" class="main" disabled={!isIdle} onClick={() => void convert()}>
          Convert
        </button>
      )}
      <Costs />
      <Status />
      <div class="failure">
        <Problem text={problem.value} />
        {problem.value !== undefined && (
          <button
            type="button"
            onClick={() => {
              problem.value = undefined;
            }}
          >
            Close
          </button>
        )}
      </div>
    </aside>
  );
}

function Costs() {
  const model = facts.value;
  if (model === undefined) return <dl class="costs" />;
  const perToken = (numKeyValueHeads: number) =>
    planKvCache(model.shape, { kvDtype: 'f32', contextLength: 1, numKeyValueHeads }).bytesPerToken;
  const before = perToken(ownHeads.value);
  const now = converted.value && perToken(converted.value.numKeyValueHeads);
  const { original, converted: after, uptrained } = losses.value;
  // Not measured when that was stopped.
  const shown = (loss: number | undefined) =>
    loss === undefined && work.value === undefined ? '–' : nats(loss);
  return (
    <dl class="costs">
      <div>
        <dt>Cache per token</dt>
        <dd>
          {count(before)}
          {now !== undefined && <b> → {count(now)}</b>} bytes
        </dd>
      </div>
      <div>
        <dt>Loss</dt>
        <dd>
          {shown(original)}
          {converted.value && <b> → {shown(uptrained ?? after)}</b>}
        </dd>
      </div>
    </dl>
  );
}

/** What is being done; also for screen readers. */
function Status() {
  const doing = work.value;
  const share = doing?.share;
  return (
    <div class="status">
      <span role="status">{doing === undefined ? '' : `${doing.what} …`}</span>
      {share !== undefined && <progress max={1} value={share} aria-label={doing?.what} />}
      {doing?.stop && doing.what !== 'Training' && (
        <button type="button" onClick={doing.stop}>
          Stop
        </button>
      )}
    </div>
  );
}
