/** Part 1: the query heads of a layer, by the key/value head that they read, with their attention. */
import { computed, effect, signal } from '@preact/signals';
import { choiceParam, wholeParam } from '../address.ts';
import { engine } from '../engine.ts';
import { percent, visible } from '../format.ts';
import { converted, facts, heads, ownHeads, prompt, revision } from '../state.ts';
import { bound, Choice, Part, Problem } from '../ui.tsx';
import type { Attention } from '../worker/look.ts';
import { HeadGraph } from './head-graph.tsx';
import { HeadMap } from './head-map.tsx';

const chosenLayer = wholeParam('layer', 1, 1, 1000);
const layer = computed(() => Math.min(chosenLayer.value, facts.value?.shape.numLayers ?? 1000));
/** The chosen query head, 1 to N; its weights colour the text. */
const chosenHead = wholeParam('head', 1, 1, 1000);
const head = computed(() => Math.min(chosenHead.value, facts.value?.shape.numHeads ?? 1000));
/** The query token; beyond the text it is the last one. */
const token = wholeParam('token', 999, 0, 999);
/** Whether the maps are those of the original. */
const shown = choiceParam('show', ['converted', 'original'] as const, 'converted');

const maps = signal<{ original?: Attention; converted?: Attention }>({});
/** Why there are no maps of the text. */
const textProblem = signal<string | undefined>(undefined);

/** Fetches the maps anew when the text, the layer or the weights change, one request at a time. */
let isFetching = false;
let isStale = false;
async function refresh(): Promise<void> {
  isStale = isFetching;
  if (isFetching || facts.value === undefined) return;
  isFetching = true;
  try {
    const at = layer.value - 1;
    const original = await engine.attention('original', prompt.value, at);
    const after = converted.value && (await engine.attention('converted', prompt.value, at));
    maps.value = { original, converted: after };
    textProblem.value = undefined;
  } catch (error) {
    maps.value = {};
    textProblem.value = (error as Error).message;
  } finally {
    isFetching = false;
  }
  if (isStale) await refresh();
}
effect(() => {
  // Read here, so that the effect runs when one of them changes.
  [facts.value, prompt.value, layer.value, revision.value];
  void refresh();
});

const seen = computed(() =>
  shown.value === 'converted' && maps.value.converted ? maps.value.converted : maps.value.original,
);
const queryToken = computed(() => Math.min(token.value, (seen.value?.tokens.length ?? 1) - 1));

/** Query heads of each key/value head; the numbers are those of the original's heads, from 0. */
const groups = computed(() => {
  if (seen.value === undefined) return [];
  const N = seen.value.numHeads;
  const isConverted = seen.value === maps.value.converted;
  const K = isConverted ? (converted.value?.numKeyValueHeads ?? 1) : ownHeads.value;
  const names = isConverted ? converted.value?.queryHeads[layer.value - 1] : undefined;
  return Array.from({ length: K }, (_, group) =>
    Array.from({ length: N / K }, (_, i) => {
      const index = group * (N / K) + i;
      return { index, name: names?.[index] ?? index };
    }),
  );
});

/** How far the maps of a head are from the original's: half the L1 distance of its rows, on average. */
function change(index: number, name: number): number | undefined {
  const { original, converted: after } = maps.value;
  if (original === undefined || after === undefined || seen.value !== after) return undefined;
  const T = after.tokens.length;
  if (original.tokens.length !== T) return undefined;
  let sum = 0;
  for (let i = 0; i < T * T; i++)
    sum += Math.abs(after.weights[index * T * T + i] - original.weights[name * T * T + i]);
  return sum / 2 / T;
}

const MERGES: Readonly<Record<string, string>> = {
  mean: '“Mean” averages the keys and values of neighbouring heads.',
  similar: '“Similar” first groups and aligns the heads whose keys and values are most alike.',
};

export function HeadsPart() {
  const numLayers = facts.value?.shape.numLayers ?? 4;
  const isConverted = converted.value !== undefined;
  return (
    <Part
      name="Heads"
      about="Every query head attends to earlier tokens by weights of its own. Heads of one colour share a key/value head: they read the same keys and values."
    >
      <div class="row">
        <label class="field grow">
          Text
          <input
            type="text"
            value={prompt.value}
            maxLength={200}
            onInput={({ currentTarget }) => {
              prompt.value = currentTarget.value;
            }}
          />
        </label>
        <LayerChoice numLayers={numLayers} />
        {isConverted && (
          <Choice
            label="Show"
            values={['original', 'converted'] as const}
            {...bound(shown)}
            text={(one) => (one === 'original' ? 'before' : 'after')}
          />
        )}
      </div>
      <Problem text={textProblem.value} />
      {seen.value && <Tokens attention={seen.value} />}
      <HeadGraph groups={groups.value} chosen={head.value - 1} />
      <div class="groups">
        {groups.value.map((group, k) => (
          <fieldset key={k} class={`group hue-${k % 6}`} style={{ '--size': group.length }}>
            <legend>Key/value head {k + 1}</legend>
            <div class="maps">
              {seen.value &&
                group.map(({ index, name }) => (
                  <HeadMap
                    key={index}
                    attention={seen.value as Attention}
                    index={index}
                    label={`Query head ${name + 1}`}
                    change={change(index, name)}
                    row={queryToken.value}
                    isChosen={name === head.value - 1}
                    onChoose={() => {
                      chosenHead.value = name + 1;
                    }}
                    onRow={(row) => {
                      token.value = row;
                    }}
                  />
                ))}
            </div>
          </fieldset>
        ))}
      </div>
      <p class="note">
        A map has a row for each query token and a column for each token that it attends to; the stronger the
        colour, the larger the weight. {seen.value?.isCut && 'The first 48 tokens are shown. '}
        {isConverted &&
          `“Changed” is the share of attention that moved to other tokens. ${MERGES[converted.value?.method ?? ''] ?? ''}`}
        {!isConverted &&
          heads.value === ownHeads.value &&
          'Each query head has its own key/value head: multi-head attention.'}
      </p>
    </Part>
  );
}

function LayerChoice({ numLayers }: { numLayers: number }) {
  const values = Array.from({ length: numLayers }, (_, i) => i + 1);
  const onChange = (value: number) => {
    chosenLayer.value = value;
  };
  if (numLayers <= 8) return <Choice label="Layer" values={values} value={layer.value} onChange={onChange} />;
  return (
    <label class="field">
      Layer
      <select value={layer.value} onChange={({ currentTarget }) => onChange(Number(currentTarget.value))}>
        {values.map((value) => (
          <option key={value}>{value}</option>
        ))}
      </select>
    </label>
  );
}

/** The text: the query token, and what it attends to in the chosen head. Arrow keys move it. */
function Tokens({ attention }: { attention: Attention }) {
  const { tokens, weights } = attention;
  const T = tokens.length;
  const row = queryToken.value;
  const flat = groups.value.flat();
  const { index, name } = flat.find((one) => one.name === head.value - 1) ?? flat[0] ?? { index: 0, name: 0 };
  const hue = groups.value.findIndex((group) => group.some((one) => one.index === index)) % 6;
  const of = (at: number) => weights[(index * T + row) * T + at];
  const most = tokens
    .map((text, at) => ({ text, share: of(at) }))
    .sort((a, b) => b.share - a.share)
    .slice(0, 3);
  const move = (event: KeyboardEvent) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -T, End: T }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    token.value = Math.max(0, Math.min(T - 1, row + step));
    const list = event.currentTarget as HTMLElement;
    (list.children[token.value] as HTMLElement).focus();
  };
  return (
    <>
      <div class={`tokens hue-${hue}`} role="radiogroup" aria-label="Query token" onKeyDown={move}>
        {tokens.map((text, at) => (
          // biome-ignore lint/a11y/useSemanticElements: a token is drawn as text, not as a radio button
          <span
            key={at}
            role="radio"
            aria-checked={at === row}
            aria-label={`${visible(text)}, token ${at + 1}`}
            tabIndex={at === row ? 0 : -1}
            class={at === row ? 'query' : at > row ? 'later' : ''}
            style={{ '--share': at > row ? 0 : Math.sqrt(of(at)) }}
            onPointerEnter={() => {
              token.value = at;
            }}
            onFocus={() => {
              token.value = at;
            }}
          >
            {visible(text)}
          </span>
        ))}
      </div>
      <p class="says" aria-live="polite">
        Query head {name + 1}: “{visible(tokens[row] ?? '')}” attends to{' '}
        {most.map(({ text, share }, i) => (
          <span key={i}>
            {i > 0 && ', '}“{visible(text)}” {percent(share)}
          </span>
        ))}
      </p>
    </>
  );
}
