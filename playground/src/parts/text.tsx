/** Part 3: the original and the converted model write side by side; chat where the model has a template. */
import { type Signal, signal } from '@preact/signals';
import { choiceParam, numberParam, wholeParam } from '../address.ts';
import { engine } from '../engine.ts';
import { percent, visible } from '../format.ts';
import { converted, facts, prompt, revision, trainedSteps, work } from '../state.ts';
import { bound, Choice, Part, Slider } from '../ui.tsx';
import type { Which } from '../worker/models.ts';
import type { Piece } from '../worker/text.ts';

const TEMPERATURES = [0, 0.2, 0.4, 0.6, 0.8, 1, 1.2];
const temperature = numberParam('temperature', 0.6, 0, 2);
const seed = wholeParam('seed', 7, 0, 2 ** 31);
const mode = choiceParam('mode', ['continue', 'chat'] as const, 'continue');
const probabilities = choiceParam('probabilities', ['hidden', 'shown'] as const, 'hidden');

/** What a model has written: its pieces, or its side of a conversation. */
interface Written {
  /** The model that wrote it. */
  readonly by?: string;
  readonly prompt: string;
  readonly pieces: readonly Piece[];
  readonly turns: readonly { readonly role: 'user' | 'assistant'; readonly text: string }[];
  readonly problem?: string;
}
const empty: Written = { prompt: '', pieces: [], turns: [] };
const written: Readonly<Record<Which, Signal<Written>>> = {
  original: signal(empty),
  converted: signal(empty),
};
// The worker forgets all conversations when a model changes.
facts.subscribe(() => {
  for (const one of Object.values(written)) one.value = empty;
});
converted.subscribe(() => {
  written.converted.value = empty;
  if (written.original.value.turns.length > 0) written.original.value = empty;
});
const message = signal('What is a whale?');
const running = signal<AbortController | undefined>(undefined);

/** Models in the order of their columns. */
const models = (): Which[] => (converted.value === undefined ? ['original'] : ['original', 'converted']);

/** Runs `write` for all models at once; Stop, or new weights, end all. */
async function run(write: (which: Which, signal: AbortSignal) => Promise<void>): Promise<void> {
  running.value?.abort();
  const own = new AbortController();
  running.value = own;
  const stopWatching = revision.subscribe((now) => {
    if (now !== started && work.value?.what !== 'Training') own.abort();
  });
  await Promise.all(
    models().map(async (which) => {
      try {
        await write(which, own.signal);
      } catch (error) {
        if ((error as Error).name !== 'AbortError')
          written[which].value = { ...written[which].value, problem: (error as Error).message };
      }
    }),
  );
  stopWatching();
  if (running.value === own) running.value = undefined;
}
let started = 0;

function continuePrompt(): void {
  started = revision.value;
  const given = prompt.value;
  const sampling = { maxNewTokens: 200, temperature: temperature.value, seed: seed.value };
  void run(async (which, stop) => {
    written[which].value = { ...empty, by: titleOf(which), prompt: given };
    const pieces: Piece[] = [];
    // Tokens come faster than frames.
    const show = oncePerFrame(() => {
      if (!stop.aborted) written[which].value = { ...written[which].value, pieces: [...pieces] };
    });
    for await (const piece of engine.continueText(which, given, sampling, stop)) {
      pieces.push(piece);
      show();
    }
  });
}

/** `run`, at most once in a frame. */
function oncePerFrame(run: () => void): () => void {
  let isWaiting = false;
  return () => {
    if (isWaiting) return;
    isWaiting = true;
    requestAnimationFrame(() => {
      isWaiting = false;
      run();
    });
  };
}

function send(): void {
  started = revision.value;
  const text = message.value.trim();
  if (text === '') return;
  message.value = '';
  const sampling = { maxNewTokens: 300, temperature: temperature.value, seed: seed.value };
  void run(async (which, stop) => {
    const before = [...written[which].value.turns, { role: 'user' as const, text }];
    const by = titleOf(which);
    let answer = '';
    const show = () => {
      if (stop.aborted) return;
      written[which].value = { ...empty, by, turns: [...before, { role: 'assistant', text: answer }] };
    };
    show();
    for await (const piece of engine.ask(which, text, sampling, stop)) {
      answer += piece;
      show();
    }
  });
}

function clear(): void {
  running.value?.abort();
  void engine.resetChats();
  for (const one of Object.values(written)) one.value = empty;
}

export function TextPart() {
  const isChat = mode.value === 'chat' && facts.value?.hasChat === true;
  const isRunning = running.value !== undefined;
  const isReady = facts.value !== undefined;
  return (
    <Part
      name="Text"
      about={`Both models ${isChat ? 'answer' : 'continue'} the same ${isChat ? 'message' : 'text'}, so that you see what the conversion costs.`}
    >
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (isChat) send();
          else continuePrompt();
        }}
      >
        {facts.value?.hasChat && (
          <div class="row">
            <Choice
              label="Mode"
              values={['continue', 'chat'] as const}
              value={mode.value}
              onChange={(value) => {
                clear();
                mode.value = value;
              }}
            />
          </div>
        )}
        <label class="field">
          {isChat ? 'Message' : 'Text to continue'}
          <textarea
            rows={2}
            value={isChat ? message.value : prompt.value}
            onInput={({ currentTarget }) => {
              (isChat ? message : prompt).value = currentTarget.value;
            }}
          />
        </label>
        <div class="row actions">
          <button type="submit" class="main" disabled={!isReady || isRunning}>
            {isChat ? 'Send' : 'Continue'}
          </button>
          <button type="button" disabled={!isRunning} onClick={() => running.value?.abort()}>
            Stop
          </button>
          {isChat && (
            <button type="button" onClick={clear}>
              New chat
            </button>
          )}
          <Slider
            label="Temperature"
            values={TEMPERATURES}
            {...bound(temperature)}
            text={(value) => (value === 0 ? '0, the likeliest token' : String(value))}
          />
          <label class="field seed">
            Seed
            <input
              type="number"
              min={0}
              value={seed.value}
              onInput={({ currentTarget }) => {
                seed.value = Math.max(0, Math.floor(Number(currentTarget.value)) || 0);
              }}
            />
          </label>
          {!isChat && (
            <label class="check">
              <input
                type="checkbox"
                checked={probabilities.value === 'shown'}
                onChange={({ currentTarget }) => {
                  probabilities.value = currentTarget.checked ? 'shown' : 'hidden';
                }}
              />
              Show probabilities
            </label>
          )}
        </div>
      </form>
      <div class="columns">
        <Column which="original" isChat={isChat} />
        {converted.value ? (
          <Column which="converted" isChat={isChat} />
        ) : (
          <div class="column">
            <h3>Converted</h3>
            <p class="note">
              Move the slider “Key/value heads”{facts.value?.isSmall === false && ' and press “Convert”'} to
              make the second model.
            </p>
          </div>
        )}
      </div>
    </Part>
  );
}

function titleOf(which: Which): string {
  if (which === 'original') return `Original, K = ${facts.value?.shape.numKeyValueHeads ?? '…'}`;
  const { numKeyValueHeads, method } = converted.value ?? {};
  const trained = trainedSteps.value;
  return `Converted, K = ${numKeyValueHeads}, ${trained > 0 ? `trained for ${trained} steps` : `by ${method}`}`;
}

function Column({ which, isChat }: { which: Which; isChat: boolean }) {
  const { by, prompt: given, pieces, turns, problem } = written[which].value;
  const title = titleOf(which);
  return (
    <div class="column">
      <h3>{title}</h3>
      {by !== undefined && by !== title && running.value === undefined && (
        <p class="note">Written earlier by “{by}”.</p>
      )}
      {by === undefined && <p class="note">Press “{isChat ? 'Send' : 'Continue'}”.</p>}
      {isChat ? (
        turns.map(({ role, text }, i) => (
          <p key={i} class={`turn ${role}`}>
            {text || '…'}
          </p>
        ))
      ) : (
        <Continuation given={given} pieces={pieces} />
      )}
      {problem !== undefined && <p class="problem">{problem}</p>}
    </div>
  );
}

/** The token whose probabilities are shown: the pointer or the keyboard chooses it. */
const looked = signal<Piece | undefined>(undefined);

function Continuation({ given, pieces }: { given: string; pieces: readonly Piece[] }) {
  if (probabilities.value === 'hidden') {
    return (
      <p class="written">
        <span class="given">{given}</span>
        {pieces.map(({ text }) => text).join('')}
      </p>
    );
  }
  const shown = looked.value && pieces.includes(looked.value) ? looked.value : pieces.at(-1);
  return (
    <>
      <p class="written">
        <span class="given">{given}</span>
        {pieces.map((piece, i) => (
          // biome-ignore lint/a11y/useSemanticElements: lines cannot break between the letters of a button
          <span
            key={i}
            role="button"
            tabIndex={piece === shown ? 0 : -1}
            class={piece === shown ? 'piece on' : 'piece'}
            style={{ '--doubt': 1 - piece.probability }}
            aria-label={`${visible(piece.text)} ${percent(piece.probability)}`}
            onPointerEnter={() => {
              looked.value = piece;
            }}
            onFocus={() => {
              looked.value = piece;
            }}
            onKeyDown={({ key, currentTarget }) => {
              const next =
                key === 'ArrowLeft'
                  ? currentTarget.previousElementSibling
                  : key === 'ArrowRight'
                    ? currentTarget.nextElementSibling
                    : null;
              if (next instanceof HTMLElement) next.focus();
            }}
          >
            {piece.text}
          </span>
        ))}
      </p>
      {shown && (
        <table class="top">
          <caption>
            “{visible(shown.text)}” had {percent(shown.probability)}. The likeliest tokens there:
          </caption>
          <tbody>
            {shown.top.map(({ text, probability }) => (
              <tr key={text}>
                <th scope="row">{visible(text)}</th>
                <td>
                  <i style={{ width: `${100 * probability}%` }} />
                </td>
                <td>{percent(probability)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </>
  );
}
