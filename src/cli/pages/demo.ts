/** The page that `gqa demo` writes: charts of its table, and the drift of the conversion. */
import { driftBars, headMaps } from '../../convert/drift-page.ts';
import { type Bar, barChart } from '../../page/bar-chart.ts';
import { COLORS, escapeHtml, factTable, htmlPage, htmlTable } from '../../page/html-page.ts';
import { PROMPT } from '../demo/measure.ts';
import type { DemoModel, DemoResult } from '../demo/result.ts';
import { cacheSize, demoCommands, demoNote, demoRows, demoSentence } from '../demo/text.ts';
import { count, percent } from '../output.ts';

/** Colours of the original, K = 2 and K = 1. */
const SERIES = [COLORS.gray, COLORS.blue, COLORS.orange];

/** @param out the demo's folder, as shown to the reader */
export function demoPage(out: string, result: DemoResult): string {
  const { model } = result;
  return htmlPage(
    `From ${model.numKeyValueHeads} key/value heads to 2 and to 1`,
    `<p>${escapeHtml(demoSentence(result))}</p>
${htmlTable(demoRows(result), 'Loss, cache and speed by key/value heads')}
<p class="note">${escapeHtml(demoNote(result))}</p>
${sizes(result)}
<h2>Loss</h2>
<p>Distillation trains the converted attention to give what the original gives: each layer alone, then all layers together.</p>
${losses(result)}
<h2>Drift of the conversion</h2>
${drifts(result)}
<h2>Samples</h2>
${samples(result)}
<h2>Details</h2>
${facts(result)}
<h2>Try next</h2>
<pre>${demoCommands(out, result).map(escapeHtml).join('\n')}</pre>`,
  );
}

function sizes(result: DemoResult): string {
  const models: readonly DemoModel[] = [result.original, ...result.converted];
  const chart = (title: string, value: (model: DemoModel) => number, text: (model: DemoModel) => string) => {
    const bars = models.map(
      (model, i): Bar => ({
        name: `K=${model.numKeyValueHeads}`,
        color: SERIES[i],
        value: value(model),
        text: text(model),
      }),
    );
    return `<figure><figcaption>${title}</figcaption>${barChart(bars, title)}</figure>`;
  };
  const { batchSize, contextLength } = result.decode;
  return `<div class="row">
${chart(
  `KV cache of ${batchSize} texts of ${contextLength}`,
  (model) => model.kvBytesPerToken,
  (model) => cacheSize(result, model.kvBytesPerToken),
)}
${chart(
  'decode, tokens per second',
  (model) => model.decodeTokensPerSecond,
  (model) => count(Math.round(model.decodeTokensPerSecond)),
)}
</div>`;
}

function losses({ original, converted }: DemoResult): string {
  const bar = (K: number, value: number, series: number, what: string): Bar => ({
    ...{ name: `K=${K}`, color: SERIES[series], value, text: `${value.toFixed(3)} ${what}` },
  });
  const bars = [
    bar(original.numKeyValueHeads, original.loss, 0, 'original'),
    ...converted.flatMap(({ numKeyValueHeads: K, loss }, i) => [
      bar(K, loss.converted, i + 1, 'converted'),
      bar(K, loss.distilled, i + 1, 'distilled'),
    ]),
  ];
  return barChart(bars, 'Loss of the original, converted and distilled models');
}

function drifts({ converted, original }: DemoResult): string {
  const parts = converted.map(
    ({ numKeyValueHeads: K, drift, loss, method }) => `<div class="half"><h3>K=${K}</h3>
<p>Loss ${original.loss.toFixed(3)} before, ${loss.mean.toFixed(3)} by <code>mean</code>, ${loss.similar.toFixed(3)} by <code>similar</code>. By <code>${method}</code> ${percent(drift.topOneAgreement)} of the likeliest characters are the same; KL divergence ${drift.kl.toFixed(3)} nats.</p>
${driftBars(drift.layers)}
${headMaps(drift.layers)}</div>`,
  );
  return `<p>Bars: relative error of each layer's keys, values and attention output (0: none; 1: that of zeros). Squares: similarity of the ${original.numKeyValueHeads} heads, 0 (faint) to 1 (full); merged heads share a frame.</p>
<div class="row">${parts.join('\n')}</div>`;
}

function samples({ original, converted }: DemoResult): string {
  return [original, ...converted]
    .map(
      ({ numKeyValueHeads: K, sample }, i) =>
        `<p class="note">K=${K}${i === 0 ? '' : ', distilled'}</p>\n<pre>${escapeHtml(`${PROMPT}${sample} …`)}</pre>`,
    )
    .join('\n');
}

function facts({ model, distillation, backend, seconds, converted }: DemoResult): string {
  const { parameters, numLayers, numHeads, numKeyValueHeads, headDim } = model;
  return factTable([
    [
      'model',
      `${count(parameters)} parameters, ${numLayers} layers, N=${numHeads}, K=${numKeyValueHeads}, H=${headDim}; trained on the characters of Moby-Dick`,
    ],
    [
      'distillation',
      `${distillation.steps} steps for each layer and ${distillation.finalSteps} for all together; ${converted.map((one) => `K=${one.numKeyValueHeads} ${Math.round(one.seconds)} s`).join(', ')}`,
    ],
    ['backend', backend],
    ['total time', `${Math.round(seconds)} s`],
  ]);
}
