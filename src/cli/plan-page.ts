/**
 * The page that `gqa plan --html` writes: one file without scripts or links, with a curve per choice of heads over the
 * context (both axes in powers of two) and the same figures as a table.
 */
import type { ModelShape } from '../format/model-shape.ts';
import { compareHeads, type HeadChoice, kvDtypeText, type PlanOptions } from '../plan/index.ts';
import { binarySize, count } from './output.ts';

const WIDTH = 760;
const HEIGHT = 420;
const LEFT = 80;
const RIGHT = 110;
const TOP = 20;
const BOTTOM = 50;
const COLORS = ['#c0392b', '#d35400', '#b7950b', '#1e8449', '#2471a3', '#7d3c98', '#117a65', '#616a6b'];

export function planPage(model: string, shape: ModelShape, options: PlanOptions): string {
  const { batchSize = 1, kvDtype = 'f16', runtime = 'exact', numKeyValueHeads } = options;
  const longest = Math.max(options.contextLength ?? 0, shape.maxPositionEmbeddings ?? 0, 1024);
  const contexts: number[] = [];
  for (let context = Math.min(512, longest / 2); context < longest; context *= 2)
    contexts.push(Math.floor(context));
  contexts.push(longest);
  const { contextLength: _, numKeyValueHeads: __, ...rest } = options;
  const heads = numKeyValueHeads === undefined ? undefined : [shape.numHeads, numKeyValueHeads];
  const at = contexts.map((contextLength) => compareHeads(shape, { ...rest, contextLength, heads }));
  const title = `KV cache of ${model}`;
  const facts = `N=${shape.numHeads} query heads, K=${shape.numKeyValueHeads}, ${shape.numLayers} layers; ${kvDtypeText(kvDtype)}, batch ${count(batchSize)}, runtime ${runtime}`;
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escapeHtml(title)}</title>
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
svg { width: 100%; height: auto; } svg text { font-size: 12px; fill: currentColor; }
.wide { overflow-x: auto; } table { border-collapse: collapse; }
td, th { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #8884; white-space: nowrap; }
</style>
<h1>${escapeHtml(title)}</h1>
<p>${escapeHtml(facts)}. Total bytes over the tokens of each sequence; both axes double at each line.</p>
${curves(contexts, at)}
<div class="wide">${table(contexts, at)}</div>
<p>Memory only: what fewer heads do to a model's answers is not in these figures.</p>
</html>
`;
}

function nameOf({ attention, numKeyValueHeads: K, isOwn }: HeadChoice): string {
  return `${attention}${K === undefined ? '' : ` K=${K}`}${isOwn ? ' (as it is)' : ''}`;
}

function curves(contexts: readonly number[], at: readonly (readonly HeadChoice[])[]): string {
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
    parts.push(`<path d="M${LEFT} ${line}H${WIDTH - RIGHT}" stroke="#8884"/>`);
    parts.push(`<text x="${LEFT - 6}" y="${line}" dy="4" text-anchor="end">${binarySize(2 ** power)}</text>`);
  }
  const every = Math.ceil(contexts.length / 10);
  contexts.forEach((context, i) => {
    if (i % every !== 0 && i !== contexts.length - 1) return;
    const text = context % 1024 === 0 ? `${context / 1024}Ki` : count(context);
    parts.push(
      `<text x="${x(context).toFixed(1)}" y="${HEIGHT - BOTTOM + 18}" text-anchor="middle">${text}</text>`,
    );
  });
  parts.push(
    `<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 8}" text-anchor="middle">context, tokens</text>`,
  );
  at[0].forEach((choice, curve) => {
    const color = COLORS[curve % COLORS.length];
    const points = contexts.map(
      (context, i) => `${x(context).toFixed(1)},${y(at[i][curve].plan.totalBytes).toFixed(1)}`,
    );
    const end = y(at[at.length - 1][curve].plan.totalBytes).toFixed(1);
    const width = choice.isOwn ? 3 : 1.5;
    parts.push(
      `<polyline fill="none" stroke="${color}" stroke-width="${width}" points="${points.join(' ')}"/>`,
    );
    parts.push(
      `<text x="${WIDTH - RIGHT + 6}" y="${end}" dy="4" style="fill:${color}">${nameOf(choice)}</text>`,
    );
  });
  const label = 'Bytes of the KV cache over the context, a curve per number of key/value heads';
  return `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${label}">\n${parts.join('\n')}\n</svg>`;
}

function table(contexts: readonly number[], at: readonly (readonly HeadChoice[])[]): string {
  const head = at[0].map((choice) => `<th>${nameOf(choice)}</th>`).join('');
  const rows = contexts.map((context, i) => {
    const cells = at[i].map(
      ({ plan }) => `<td title="${count(plan.totalBytes)} bytes">${binarySize(plan.totalBytes)}</td>`,
    );
    return `<tr><th>${count(context)}</th>${cells.join('')}</tr>`;
  });
  return `<table><tr><th>tokens</th>${head}</tr>\n${rows.join('\n')}\n</table>`;
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
}
