/**
 * The drift report as a page: one file without scripts or links. Losses on each text, what both models write,
 * bars per layer for the three errors, a heat map of the similarity of the old heads with the groups outlined,
 * the numbers as a table.
 */

import { grouped } from '../arguments/inspect.ts';
import { checkObject } from '../arguments/kinds.ts';
import {
  COLORS,
  escapeHtml,
  factTable,
  htmlPage,
  htmlTable,
  legend,
  svg,
  svgOfPageWidth,
} from '../page/html-page.ts';
import { niceTicks } from '../page/nice-ticks.ts';
import { CALIBRATION_TEXT, type DriftReport, type LayerDrift, worstLayers } from './drift.ts';

/** Names and colours of a layer's three errors. */
const SERIES = {
  key: { name: 'keys', color: COLORS.blue },
  value: { name: 'values', color: COLORS.green },
  attentionOutput: { name: 'attention output', color: COLORS.red },
} as const;
type Kind = keyof typeof SERIES;
const KINDS: readonly Kind[] = ['key', 'value', 'attentionOutput'];
/** With more cells, one map shows the mean of all layers. */
const MAX_CELLS = 20_000;
/** Width of a head map and its caption in pixels, so that maps line up. */
const MAP_WIDTH = 160;

/** @param title such as the names of both checkpoints */
export function driftPage(title: string, report: DriftReport): string {
  checkObject('driftPage', 'a title and what measureDrift gives', report?.before);
  const { before, after, numKeyValueHeads: K } = report;
  const facts: [string, string][] = [
    [
      'key/value heads',
      `${K.before} to ${K.after} (of ${report.numHeads} query heads), method ${report.method}`,
    ],
    ['perplexity', `${before.perplexity.toFixed(2)} to ${after.perplexity.toFixed(2)}`],
    ['loss', `${before.loss.toFixed(4)} to ${after.loss.toFixed(4)} nats per token`],
    ['KL divergence', `${report.kl.toFixed(4)} nats per token`],
    ['same likeliest token', percent(report.topOneAgreement)],
    ['predicted', `${grouped(report.predicted)} tokens`],
    ['largest output errors', worstLayers(report.layers)],
  ];
  return htmlPage(
    title,
    `${factTable(facts)}
${textTable(report)}${answerTable(report)}<h2>Error of each layer</h2>
<p>Relative error, sqrt(sum of squared errors / sum of squares), on the original model's input to the layer: 0 is none, 1 is that of zeros.</p>
${driftBars(report.layers)}
<h2>Similarity of the heads</h2>
<p>Of the ${K.before} original key/value heads, 0 (faint) to 1 (full); merged heads share a frame.</p>
${headMaps(report.layers)}
<h2>Numbers</h2>
${table(report.layers)}`,
  );
}

/** Loss and KL on each text. */
function textTable({ text, texts }: DriftReport): string {
  if (Object.keys(texts).length === 0) return '';
  const rows = Object.entries({ ...(text && { [CALIBRATION_TEXT]: text }), ...texts }).map(
    ([name, { before, after, kl, topOneAgreement }]) => [
      escapeHtml(name),
      ...[before.loss, after.loss, after.loss - before.loss, kl].map((value) => value.toFixed(3)),
      percent(topOneAgreement),
    ],
  );
  const head = ['text', 'loss before', 'loss after', 'difference', 'KL', 'same likeliest token'];
  return `<h2>Each text</h2>
<p>Losses and KL in nats per token.</p>
${htmlTable([head, ...rows], 'Loss and KL on each text')}
`;
}

/** What both models write. */
function answerTable({ answers }: DriftReport): string {
  if (answers === undefined) return '';
  const { generation, cloze } = answers;
  const both = (measure: { readonly before: number; readonly after: number }) => [
    percent(measure.before),
    percent(measure.after),
  ];
  const rows = [
    ['', 'before', 'after'],
    ['same greedy tokens from the start', '', `${generation.agreement.toFixed(1)} of 32`],
    ['repeated 4-grams', ...both(generation.repetition)],
    ...(cloze.questions === 0 ? [] : [['last word of a sentence found', ...both(cloze.accuracy)]]),
  ];
  return `<h2>What the models write</h2>
<p>${generation.prompts} greedy continuations of 32 tokens, and the last words of ${cloze.questions} sentences as LAMBADA asks for them. Models can be close in loss and far apart here.</p>
${htmlTable(rows, 'Generation before and after')}
`;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

/** The errors of each layer as bars, on one scale. */
export function driftBars(layers: readonly LayerDrift[]): string {
  return `${legend(KINDS.map((kind) => SERIES[kind]))}${svgOfPageWidth((width) => bars(layers, width))}`;
}

function bars(layers: readonly LayerDrift[], pageWidth: number): string {
  const [left, top, height, bottom] = [40, 10, 220, 30];
  const step = Math.min(90, (pageWidth - left - 10) / layers.length);
  const width = left + layers.length * step + 10;
  const ticks = niceTicks(0, Math.max(1e-9, ...layers.flatMap((layer) => KINDS.map((kind) => layer[kind]))));
  const most = ticks[ticks.length - 1];
  const parts: string[] = [];
  for (const tick of ticks) {
    const y = (top + height - (tick / most) * height).toFixed(1);
    parts.push(`<path d="M${left} ${y}H${width}" stroke="var(--line)"/>`);
    parts.push(
      `<text x="${left - 5}" y="${y}" dy="4" text-anchor="end">${Number(tick.toPrecision(6))}</text>`,
    );
  }
  const bar = (0.8 * step) / 3;
  const every = Math.ceil(28 / step);
  layers.forEach((layer, i) => {
    KINDS.forEach((kind, k) => {
      const tall = (layer[kind] / most) * height;
      const x = left + i * step + k * bar + step / 10;
      parts.push(
        `<rect x="${x.toFixed(2)}" y="${(top + height - tall).toFixed(1)}" width="${(0.9 * bar).toFixed(2)}" height="${tall.toFixed(1)}" fill="${SERIES[kind].color}"><title>layer ${i}, ${SERIES[kind].name}: ${layer[kind].toFixed(4)}</title></rect>`,
      );
    });
    if (i % every === 0) {
      parts.push(
        `<text x="${(left + (i + 0.5) * step).toFixed(1)}" y="${top + height + 16}" text-anchor="middle">${i}</text>`,
      );
    }
  });
  return svg(width, top + height + bottom, 'Relative errors per layer', parts);
}

/** The similarity of each layer's heads, with groups outlined. */
export function headMaps(layers: readonly LayerDrift[]): string {
  const K = layers[0]?.similarity.length ?? 0;
  if (layers.length * K * K > MAX_CELLS) {
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
  const width = Math.max(MAP_WIDTH, Math.ceil(cell * K));
  return `<div class="maps" style="--map:${width}px">${each.join('\n')}</div>`;
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
        `<rect x="${(x * cell).toFixed(1)}" y="${(y * cell).toFixed(1)}" width="${cell.toFixed(1)}" height="${cell.toFixed(1)}" fill="var(--blue)" fill-opacity="${value.toFixed(2)}"><title>heads ${j} and ${l}: ${value.toFixed(3)}</title></rect>`,
      );
    });
  });
  let at = 0;
  if (order === together) {
    for (const group of groups) {
      const size = (group.length * cell).toFixed(1);
      const from = (at * cell).toFixed(1);
      parts.push(
        `<rect x="${from}" y="${from}" width="${size}" height="${size}" fill="none" stroke="var(--orange)" stroke-width="2"/>`,
      );
      at += group.length;
    }
  }
  const side = similarity.length * cell;
  const heads = order === together ? groups.map((group) => group.join('+')).join(', ') : '';
  return `<figure>${svg(side, side, `Head similarity, ${name}`, parts)}<figcaption>${name}${heads ? `: ${heads}` : ''}</figcaption></figure>`;
}

function table(layers: readonly LayerDrift[]): string {
  const rows = layers.map((layer, i) => [
    `${i}`,
    ...KINDS.map((kind) => layer[kind].toFixed(4)),
    layer.groups.map((group) => group.join('+')).join(', '),
  ]);
  return htmlTable(
    [['layer', ...KINDS.map((kind) => SERIES[kind].name), 'groups'], ...rows],
    'Errors by layer',
  );
}
