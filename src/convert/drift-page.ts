/**
 * The drift report as a page: one file without scripts or links. Bars per layer for the three errors, a heat map of what the old
 * heads have in common with the groups drawn around them, the numbers as a table.
 */
import type { DriftReport, LayerDrift } from './drift.ts';

const COLORS = { key: '#2471a3', value: '#1e8449', attentionOutput: '#c0392b' };
const NAMES = { key: 'keys', value: 'values', attentionOutput: 'attention output' };
type Kind = keyof typeof COLORS;
const KINDS: readonly Kind[] = ['key', 'value', 'attentionOutput'];
/** More cells than this are drawn as the mean of all layers. */
const MOST_CELLS = 20_000;

/** @param title such as the names of both checkpoints */
export function driftPage(title: string, report: DriftReport): string {
  const { before, after, numKeyValueHeads: K } = report;
  const facts = [
    [
      'key/value heads',
      `${K.before} to ${K.after} (of ${report.numHeads} query heads), method ${report.method}`,
    ],
    ['perplexity', `${before.perplexity.toFixed(2)} to ${after.perplexity.toFixed(2)}`],
    ['loss', `${before.loss.toFixed(4)} to ${after.loss.toFixed(4)} nats per token`],
    ['KL divergence', `${report.kl.toFixed(4)} nats per token`],
    ['same likeliest token', `${(100 * report.topOneAgreement).toFixed(1)} %`],
    ['text', `${report.predicted} tokens predicted`],
  ];
  const rows = facts.map(([name, value]) => `<tr><th>${name}</th><td>${escapeHtml(value)}</td></tr>`);
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escapeHtml(title)}</title>
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
svg { max-width: 100%; height: auto; } svg text { font-size: 11px; fill: currentColor; }
.maps { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; } figcaption { font-size: .8rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; }
td, th { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #8884; white-space: nowrap; }
.facts th, .facts td { text-align: left; }
</style>
<h1>${escapeHtml(title)}</h1>
<table class="facts">${rows.join('\n')}</table>
<h2>Error of each layer</h2>
<p>Root of the squared error over the squared size, on the original's input to the layer: 0 is none, 1 as far off as zeros.
${KINDS.map((kind) => `<span style="color:${COLORS[kind]}">■</span> ${NAMES[kind]}`).join(' ')}</p>
${bars(report.layers)}
<h2>What the heads have in common</h2>
<p>Of the ${K.before} key/value heads before, 0 (light) to 1 (dark); heads that became one are framed alike.</p>
${maps(report.layers)}
<h2>Numbers</h2>
<div class="wide">${table(report.layers)}</div>
</html>
`;
}

function bars(layers: readonly LayerDrift[]): string {
  const [left, top, height, bottom] = [40, 10, 220, 30];
  const step = Math.max(12, Math.min(40, Math.floor(860 / layers.length)));
  const width = left + layers.length * step + 10;
  const most = Math.max(1e-9, ...layers.flatMap((layer) => KINDS.map((kind) => layer[kind])));
  const parts: string[] = [];
  for (let i = 0; i <= 4; i++) {
    const y = top + height - (i / 4) * height;
    parts.push(`<path d="M${left} ${y}H${width}" stroke="#8884"/>`);
    parts.push(
      `<text x="${left - 5}" y="${y}" dy="4" text-anchor="end">${((i / 4) * most).toPrecision(2)}</text>`,
    );
  }
  const bar = (step - 3) / 3;
  layers.forEach((layer, i) => {
    KINDS.forEach((kind, k) => {
      const tall = (layer[kind] / most) * height;
      const x = left + i * step + k * bar + 2;
      parts.push(
        `<rect x="${x.toFixed(1)}" y="${(top + height - tall).toFixed(1)}" width="${(bar - 0.5).toFixed(1)}" height="${tall.toFixed(1)}" fill="${COLORS[kind]}"><title>layer ${i}, ${NAMES[kind]}: ${layer[kind].toFixed(4)}</title></rect>`,
      );
    });
    if (layers.length <= 24 || i % 4 === 0) {
      parts.push(
        `<text x="${left + (i + 0.5) * step}" y="${top + height + 16}" text-anchor="middle">${i}</text>`,
      );
    }
  });
  return svg(width, top + height + bottom, 'Relative errors per layer', parts);
}

function maps(layers: readonly LayerDrift[]): string {
  const K = layers[0]?.similarity.length ?? 0;
  if (layers.length * K * K > MOST_CELLS) {
    const mean = Array.from({ length: K }, (_, j) =>
      Array.from(
        { length: K },
        (_, l) => layers.reduce((sum, layer) => sum + layer.similarity[j][l], 0) / layers.length,
      ),
    );
    return figure('mean of all layers', mean, [], 480 / K);
  }
  const cell = Math.max(4, Math.min(18, 150 / K));
  const each = layers.map((layer, i) => figure(`layer ${i}`, layer.similarity, layer.groups, cell));
  return `<div class="maps">${each.join('\n')}</div>`;
}

/** Heads in the order of their groups, so that a group is a square on the diagonal. */
function figure(
  name: string,
  similarity: readonly (readonly number[])[],
  groups: readonly (readonly number[])[],
  cell: number,
): string {
  const together = groups.flat();
  const order = together.length === similarity.length ? together : similarity.map((_, head) => head);
  const parts: string[] = [];
  order.forEach((j, y) => {
    order.forEach((l, x) => {
      const value = Math.min(1, Math.max(0, similarity[j][l]));
      parts.push(
        `<rect x="${(x * cell).toFixed(1)}" y="${(y * cell).toFixed(1)}" width="${cell.toFixed(1)}" height="${cell.toFixed(1)}" fill="#2471a3" fill-opacity="${value.toFixed(2)}"><title>heads ${j} and ${l}: ${value.toFixed(3)}</title></rect>`,
      );
    });
  });
  let at = 0;
  if (order === together) {
    for (const group of groups) {
      const size = (group.length * cell).toFixed(1);
      const from = (at * cell).toFixed(1);
      parts.push(
        `<rect x="${from}" y="${from}" width="${size}" height="${size}" fill="none" stroke="#c0392b"/>`,
      );
      at += group.length;
    }
  }
  const side = similarity.length * cell;
  const heads = order === together ? groups.map((group) => group.join('+')).join(', ') : '';
  return `<figure>${svg(side, side, `What heads have in common, ${name}`, parts)}<figcaption>${name}${heads ? `: ${heads}` : ''}</figcaption></figure>`;
}

function table(layers: readonly LayerDrift[]): string {
  const rows = layers.map(
    (layer, i) =>
      `<tr><th>${i}</th>${KINDS.map((kind) => `<td>${layer[kind].toFixed(4)}</td>`).join('')}<td>${layer.groups.map((group) => group.join('+')).join(', ')}</td></tr>`,
  );
  const head = KINDS.map((kind) => `<th>${NAMES[kind]}</th>`).join('');
  return `<table><tr><th>layer</th>${head}<th>groups</th></tr>\n${rows.join('\n')}\n</table>`;
}

function svg(width: number, height: number, label: string, parts: readonly string[]): string {
  const [w, h] = [Math.ceil(width), Math.ceil(height)];
  return `<svg viewBox="0 0 ${w} ${h}" width="${w}" role="img" aria-label="${label}">\n${parts.join('\n')}\n</svg>`;
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
}
