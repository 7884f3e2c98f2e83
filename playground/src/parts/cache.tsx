/** Part 2: what the KV cache holds and how large it is, and the whole memory, for this model and for known ones. */
import { computed, signal } from '@preact/signals';
import { compareHeads, type HeadChoice, listPresets, type ModelShape, maxBatch, maxContext } from 'gqa/plan';
import { choiceParam, numberParam, wholeParam } from '../address.ts';
import { engine, working } from '../engine.ts';
import { binaryBytes, bytes, count } from '../format.ts';
import { facts, heads, work } from '../state.ts';
import { bound, Choice, Menu, Part, Slider } from '../ui.tsx';
import type { Speed } from '../worker/speed.ts';
import { Memory } from './memory.tsx';

const GIB = 2 ** 30;
const CONTEXTS = [128, 256, 512, ...Array.from({ length: 11 }, (_, i) => 1024 * 2 ** i)];
const BATCHES = Array.from({ length: 11 }, (_, i) => 2 ** i);
const MEMORIES = [
  1 / 64,
  1 / 16,
  1 / 4,
  1,
  2,
  4,
  8,
  12,
  16,
  24,
  32,
  48,
  64,
  80,
  96,
  141,
  192,
  320,
  640,
  1128,
];
const KV_DTYPES = ['f32', 'f16', 'q8_0'] as const;

/** A preset's id; empty for the page's model. */
const chosenPreset = choiceParam('model', ['', ...listPresets().map(({ id }) => id)], '');
const context = wholeParam('context', 512, 1, 2 ** 21);
const batch = wholeParam('batch', 1, 1, 2 ** 20);
const kvDtype = choiceParam('kv', KV_DTYPES, 'f32');
const memory = numberParam('gib', 24, 1 / 64, 4096);

/** Measurements at the sizes of the page's model. */
export const speeds = signal<readonly Speed[]>([]);
facts.subscribe(() => {
  speeds.value = [];
});

const shape = computed((): ModelShape | undefined => {
  const known = listPresets().find(({ id }) => id === chosenPreset.value);
  return known?.shape ?? facts.value?.shape;
});
const isOwnModel = computed(() => shape.value === facts.value?.shape);

/** The latent row of MLA: the model's own, or of DeepSeek-V2's proportions (arXiv 2405.04434, section 2.1.4). */
function latentOf({ layers, headDim }: ModelShape): { rank: number; ropeDim: number } {
  const own = layers.find(({ latent }) => latent !== undefined)?.latent;
  return own ?? { rank: 4 * headDim, ropeDim: headDim / 2 };
}

/** K of the row GQA: the slider's, or the model's own, or else one in between. */
function groupedHeads({ numHeads: N, numKeyValueHeads: own }: ModelShape): number {
  const wanted = isOwnModel.value ? heads.value : own;
  if (wanted > 1 && wanted < N) return wanted;
  return Array.from({ length: N }, (_, i) => i + 1).find((K) => N % K === 0 && K >= N / 8 && K > 1) ?? 1;
}

const comparison = computed((): { rows: readonly HeadChoice[]; problem?: string } => {
  const model = shape.value;
  if (model === undefined) return { rows: [] };
  try {
    const { rank, ropeDim } = latentOf(model);
    const options = { contextLength: context.value, batchSize: batch.value, kvDtype: kvDtype.value };
    const compared = [model.numHeads, groupedHeads(model), 1];
    return { rows: compareHeads(model, { ...options, heads: compared, latent: { rank, ropeDim } }) };
  } catch (error) {
    return { rows: [], problem: (error as Error).message };
  }
});

/** What fits into the chosen memory: texts of the chosen length, and the longest text of the chosen batch. */
function fits(model: ModelShape, { numKeyValueHeads }: HeadChoice): { texts: number; longest: number } {
  const source = numKeyValueHeads === undefined ? withLatent(model) : model;
  const options = { kvDtype: kvDtype.value, ...(numKeyValueHeads !== undefined && { numKeyValueHeads }) };
  try {
    const available = memory.value * GIB;
    return {
      texts: maxBatch(source, available, { ...options, contextLength: context.value }),
      longest: maxContext(source, available, { ...options, batchSize: batch.value }),
    };
  } catch {
    return { texts: 0, longest: 0 }; // not even one token fits
  }
}

function withLatent(model: ModelShape): ModelShape {
  const { rank, ropeDim } = latentOf(model);
  const layers = model.layers.map((layer) =>
    layer.kind === 'linear' || layer.kind === 'shared' || layer.latent !== undefined
      ? layer
      : {
          ...layer,
          kind: layer.window === undefined ? ('latent' as const) : layer.kind,
          latent: { rank, ropeDim },
        },
  );
  return { ...model, layers };
}

async function measure(): Promise<void> {
  const stop = new AbortController();
  await working('Measuring the speed', async () => {
    work.value = { what: 'Measuring the speed', stop: () => stop.abort() };
    const model = facts.value?.shape as ModelShape;
    speeds.value = await engine.measureSpeeds(groupedHeads(model), latentOf(model), stop.signal);
  });
}

export function CachePart() {
  const { rows, problem } = comparison.value;
  const model = shape.value;
  return (
    <Part
      name="Cache"
      about="A model that generates text keeps the keys and values of all tokens so far. Each step reads all of them, so their size limits how many texts fit into memory, how long they can be, and how fast they are generated."
    >
      <div class="row">
        <Menu
          label="Model"
          value={chosenPreset.value}
          onChange={(id) => {
            chosenPreset.value = id;
            // The page's models run with f32 caches, large ones mostly with f16.
            kvDtype.value = id === '' ? 'f32' : 'f16';
            context.value = id === '' ? 512 : 4096;
          }}
        >
          <option value="">{facts.value ? `This page's: ${facts.value.name}` : 'This page’s model'}</option>
          {listPresets().map(({ id, name }) => (
            <option key={id} value={id}>
              {name}
            </option>
          ))}
        </Menu>
        <Choice label="Stored as" values={KV_DTYPES} {...bound(kvDtype)} />
        <Slider label="Tokens of a text" values={CONTEXTS} {...bound(context)} text={count} />
        <Slider label="Texts in a batch" values={BATCHES} {...bound(batch)} text={count} />
        <Slider
          label="Memory for caches"
          values={MEMORIES}
          {...bound(memory)}
          text={(value) => binaryBytes(value * GIB)}
        />
      </div>
      {problem !== undefined && <p class="problem">{problem}</p>}
      {model && rows.length > 0 && <Comparison model={model} rows={rows} />}
      <p class="note">
        The pictures show to scale what one layer stores for one token: keys on the left, values on the right.
        MLA (DeepSeek) stores one latent row that all heads share, and a rotary key.
        {model && rows[0]?.plan.warnings.map((warning) => ` Note: ${warning}.`)}
      </p>
      {isOwnModel.value && <Measurement />}
      {model && (
        <Memory
          model={model}
          isOwn={isOwnModel.value}
          options={{ contextLength: context.value, batchSize: batch.value, kvDtype: kvDtype.value }}
        />
      )}
    </Part>
  );
}

function Comparison({ model, rows }: { model: ModelShape; rows: readonly HeadChoice[] }) {
  const widest = valuesOf(model, rows[0]);
  const available = binaryBytes(memory.value * GIB);
  return (
    <table class="kinds" aria-label="Caches">
      <thead>
        <tr>
          <th scope="col">Attention</th>
          <th scope="col">Stored per token and layer</th>
          <th scope="col">Per token</th>
          <th scope="col">A text of {count(context.value)}</th>
          <th scope="col">Batch of {count(batch.value)}</th>
          <th scope="col">Texts in {available}</th>
          <th scope="col">Longest text</th>
          {isOwnModel.value && <th scope="col">Tokens per second</th>}
        </tr>
      </thead>
      <tbody>
        {rows.map((row) => {
          const { texts, longest } = fits(model, row);
          const { plan, attention, numKeyValueHeads, isOwn } = row;
          const speed = speeds.value.find((one) => one.numKeyValueHeads === numKeyValueHeads);
          return (
            <tr key={attention + numKeyValueHeads} class={isOwn ? 'own' : ''}>
              <th scope="row">
                {attention}
                <small>
                  {numKeyValueHeads === undefined ? 'latent row' : `K = ${numKeyValueHeads}`}
                  {isOwn && ', its own'}
                </small>
              </th>
              <td data-label="Stored per token and layer">
                <Stored model={model} row={row} widest={widest} />
                <small>{count(valuesOf(model, row))} values</small>
              </td>
              <td data-label="Per token" title={`${count(plan.bytesPerToken)} bytes`}>
                <b>{bytes(plan.bytesPerToken)}</b>
                <small>{count(plan.bytesPerToken)} bytes</small>
              </td>
              <td data-label="A text">{bytes(plan.bytesPerSequence)}</td>
              <td data-label="The batch">{bytes(plan.totalBytes)}</td>
              <td data-label={`Texts in ${available}`}>{count(texts)}</td>
              <td data-label="Longest text">
                {longest === Number.POSITIVE_INFINITY ? 'any' : count(longest)}
              </td>
              {isOwnModel.value && (
                <td data-label="Tokens per second">
                  {speed === undefined ? '–' : count(Math.round(speed.tokensPerSecond))}
                </td>
              )}
            </tr>
          );
        })}
      </tbody>
    </table>
  );
}

/** Values per token of a layer. */
function valuesOf(model: ModelShape, { numKeyValueHeads }: HeadChoice): number {
  const { rank, ropeDim } = latentOf(model);
  if (numKeyValueHeads === undefined) return rank + ropeDim;
  return numKeyValueHeads * (model.layers[0].keyHeadDim + model.layers[0].valueHeadDim);
}

/** The heads as cells, each as wide as its values. */
function Stored({ model, row, widest }: { model: ModelShape; row: HeadChoice; widest: number }) {
  const { numKeyValueHeads: K } = row;
  const { keyHeadDim, valueHeadDim } = model.layers[0];
  const { rank, ropeDim } = latentOf(model);
  const cells =
    K === undefined
      ? [
          { width: rank, kind: 'latent' },
          { width: ropeDim, kind: 'key' },
        ]
      : [
          ...Array.from({ length: K }, () => ({ width: keyHeadDim, kind: 'key' })),
          ...Array.from({ length: K }, () => ({ width: valueHeadDim, kind: 'value' })),
        ];
  const gap = cells.length > 40 ? 0.1 : 0.06;
  let x = 0;
  return (
    <svg class="stored" viewBox={`0 0 ${widest} 1`} preserveAspectRatio="none" aria-hidden="true">
      {cells.map(({ width, kind }, i) => {
        const left = x;
        x += width;
        return <rect key={i} class={kind} x={left} y={0} width={width * (1 - gap)} height={1} />;
      })}
    </svg>
  );
}

function Measurement() {
  const isMeasuring = work.value?.what === 'Measuring the speed';
  const [first] = speeds.value;
  return (
    <div class="row actions">
      <button type="button" disabled={work.value !== undefined} onClick={() => void measure()}>
        Measure
      </button>
      <button type="button" disabled={!isMeasuring} onClick={() => work.value?.stop?.()}>
        Stop
      </button>
      <p class="note grow">
        {first === undefined
          ? 'Measures how fast each kind of attention generates in this tab.'
          : `${count(first.batchSize)} texts at once, ${count(first.contextLength)} tokens in the cache of each${facts.value?.isSmall ? '; models of this size with random weights' : ''}. The caches took ${speeds.value.map(({ attention, cacheBytes }) => `${count(cacheBytes)} bytes (${attention})`).join(', ')}.`}
      </p>
    </div>
  );
}
