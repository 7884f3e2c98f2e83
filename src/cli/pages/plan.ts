/**
 * The page that `gqa plan --html` writes: one file without scripts or links, with a curve per choice of heads
 * over the context (both axes in powers of two) and the same figures as a table.
 */
import type { ModelShape } from '../../format/model-shape.ts';
import {
  COLORS,
  escapeHtml,
  htmlPage,
  htmlTable,
  legend,
  svg,
  svgOfPageWidth,
} from '../../page/html-page.ts';
import {
  compareHeads,
  type HeadChoice,
  type MemoryOptions,
  type MemoryPlan,
  planMemory,
  type SpeedPlan,
} from '../../plan/index.ts';
import { kvDtypeText } from '../../plan/kv-dtype.ts';
import { binarySize, count } from '../output.ts';

const HEIGHT = 420;
const LEFT = 80;
/** Margin for labels at the ends of curves; on a narrow page labels are above. */
const NAMES = 140;
const TOP = 20;
const BOTTOM = 50;
const CURVE_COLORS = Object.values(COLORS);

/** @param speed undefined without a device */
export function planPage(
  model: string,
  shape: ModelShape,
  options: MemoryOptions,
  speed?: SpeedPlan,
): string {
  const { batchSize = 1, kvDtype = 'f16', runtime = 'exact', numKeyValueHeads } = options;
  const longest = Math.max(options.contextLength ?? 0, shape.maxPositionEmbeddings ?? 0, 1024);
  const contexts: number[] = [];
  for (let context = Math.min(512, longest / 2); context < longest; context *= 2)
    contexts.push(Math.floor(context));
  contexts.push(longest);
  const { contextLength: _, numKeyValueHeads: __, weights: ___, ...rest } = options;
  const heads = numKeyValueHeads === undefined ? undefined : [shape.numHeads, numKeyValueHeads];
  const at = contexts.map((contextLength) => compareHeads(shape, { ...rest, contextLength, heads }));
  const title = `KV cache of ${model}`;
  const facts = `N=${shape.numHeads} query heads, K=${shape.numKeyValueHeads}, ${shape.numLayers} layers; ${kvDtypeText(kvDtype)}, batch ${count(batchSize)}, runtime ${runtime}`;
  const doubts = (shape.warnings ?? []).map(
    (text) => `<p><strong>Warning:</strong> ${escapeHtml(text)}.</p>\n`,
  );
  return htmlPage(
    title,
    `${doubts.join('')}<p>${escapeHtml(facts)}. Total bytes over the tokens of each sequence; both axes double at each line.</p>
<div class="narrow">${legend(at[0].map((choice, i) => ({ name: nameOf(choice), color: colorOf(i) })))}</div>
${svgOfPageWidth((width) => curves(contexts, at, width))}
${table(contexts, at)}
${memoryTables(planMemory(shape, options), speed)}
<p class="note">Memory only: what fewer heads do to a model's answers is not in these figures.</p>`,
  );
}

/** Weights, cache and activations at the planned context; tokens per second. */
function memoryTables(
  { weights, kvCache, activations, totalBytes }: MemoryPlan,
  speed: SpeedPlan | undefined,
): string {
  const size = (bytes: number) => `${count(bytes)} bytes (${binarySize(bytes)})`;
  const place = `${count(kvCache.contextLength)} tokens, batch ${count(kvCache.batchSize)}`;
  const rows = [
    ['memory', place, 'rests on'],
    ['weights', size(weights.bytes), weights.basis],
    ['KV cache', size(kvCache.totalBytes), 'the table above'],
    ['activations', size(activations.bytes), activations.basis],
    ['all', size(totalBytes), 'weights, cache and activations; not the program'],
  ];
  const kinds = weights.groups.map(({ kind, dtype, parameters, bytes }) => [
    kind,
    dtype,
    count(parameters),
    size(bytes),
  ]);
  const parts = [
    htmlTable(rows.map(escaped), 'Memory'),
    htmlTable([['weights', 'dtype', 'parameters', 'bytes'], ...kinds], 'Weights by kind and type'),
  ];
  if (speed !== undefined) {
    const speeds = Object.entries(speed).map(([name, { tokensPerSecond, basis }]) => [
      name,
      String(Number(tokensPerSecond.toPrecision(3))),
      basis,
    ]);
    parts.push(htmlTable([['', 'tokens per second', 'rests on'], ...speeds.map(escaped)], 'Speed'));
  }
  return parts.join('\n');
}

function escaped(row: readonly string[]): string[] {
  return row.map(escapeHtml);
}

function nameOf({ attention, numKeyValueHeads: K, isOwn }: HeadChoice): string {
  return `${attention}${K === undefined ? '' : ` K=${K}`}${isOwn ? ' (as it is)' : ''}`;
}

function colorOf(curve: number): string {
  return CURVE_COLORS[curve % CURVE_COLORS.length];
}

function curves(contexts: readonly number[], at: readonly (readonly HeadChoice[])[], WIDTH: number): string {
  const hasNames = WIDTH > 5 * NAMES;
  const RIGHT = hasNames ? NAMES : 16;
  const bytes = at.flat().map(({ plan }) => Math.max(1, plan.totalBytes));
  const low = Math.floor(Math.log2(Math.min(...bytes)));
  const high = Math.max(low + 1, Math.ceil(Math.log2(Math.max(...bytes))));
  const first = Math.log2(contexts[0]);
  const last = Math.log2(contexts[contexts.length - 1]);
  const x = (context: number) =>
    LEFT + ((Math.log2(context) - first) / (last - first)) * (WIDTH - LEFT - RIGHT);
  const y = (value: number) =>
    HEIGHT - BOTTOM - ((Math.log2(Math.max(1, value)) - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  const step = Math.ceil((high - low) / 12);
  const parts: string[] = [];
  for (let power = low; power <= high; power += step) {
    const line = y(2 ** power).toFixed(1);
    parts.push(`<path d="M${LEFT} ${line}H${WIDTH - RIGHT}" stroke="var(--line)"/>`);
    parts.push(`<text x="${LEFT - 6}" y="${line}" dy="4" text-anchor="end">${binarySize(2 ** power)}</text>`);
  }
  const every = Math.ceil((contexts.length * 50) / (WIDTH - LEFT - RIGHT));
  contexts.forEach((context, i) => {
    // Counted from the end, so that the requested context has a label.
    if ((contexts.length - 1 - i) % every !== 0) return;
    const text = context % 1024 === 0 ? `${context / 1024}Ki` : count(context);
    parts.push(
      `<text x="${x(context).toFixed(1)}" y="${HEIGHT - BOTTOM + 18}" text-anchor="middle">${text}</text>`,
    );
  });
  parts.push(
    `<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 8}" text-anchor="middle">context, tokens</text>`,
  );
  const names = apart(at[at.length - 1].map(({ plan }) => y(plan.totalBytes)));
  at[0].forEach((choice, curve) => {
    const color = colorOf(curve);
    const points = contexts.map(
      (context, i) => `${x(context).toFixed(1)},${y(at[i][curve].plan.totalBytes).toFixed(1)}`,
    );
    const width = choice.isOwn ? 3 : 1.5;
    parts.push(
      `<polyline fill="none" stroke="${color}" stroke-width="${width}" points="${points.join(' ')}"/>`,
    );
    if (hasNames) {
      parts.push(
        `<text x="${WIDTH - RIGHT + 6}" y="${names[curve].toFixed(1)}" dy="4" style="fill:${color}">${nameOf(choice)}</text>`,
      );
    }
  });
  const label = 'Bytes of the KV cache over the context, a curve per number of key/value heads';
  return svg(WIDTH, HEIGHT, label, parts);
}

/** Label positions, moved down by the least that keeps them from overlapping. */
function apart(heights: readonly number[]): number[] {
  const moved = [...heights];
  const order = heights.map((_, i) => i).sort((a, b) => heights[a] - heights[b]);
  order.forEach((at, i) => {
    if (i > 0) moved[at] = Math.max(moved[at], moved[order[i - 1]] + 14);
  });
  return moved;
}

function table(contexts: readonly number[], at: readonly (readonly HeadChoice[])[]): string {
  const rows = contexts.map((context, i) => [
    count(context),
    ...at[i].map(
      ({ plan }) => `<span title="${count(plan.totalBytes)} bytes">${binarySize(plan.totalBytes)}</span>`,
    ),
  ]);
  return htmlTable([['tokens', ...at[0].map(nameOf)], ...rows], 'Bytes by context and heads');
}
