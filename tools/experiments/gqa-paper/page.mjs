/** The tables and plots of docs/experiments/gqa-paper.md from the experiment's cells. */
import { COLORS, linePlot } from '../line-plot.mjs';
import {
  ALPHAS,
  CONTINUED,
  DISTILLED,
  DISTILLED_ALPHA,
  GROUPS,
  HEADS,
  METHODS,
  SCRATCH,
  SCRATCH_GROUPS,
  uptrainedMethods,
} from './runs.mjs';
import { DECODERS } from './timing.mjs';

/** The paper's Fig. 4, read off its bars by a transcriber (+-0.1): mean score of CNN/DailyMail, MultiNews and TriviaQA. */
const PAPER_METHODS = { mean: 55.6, first: 55.1, random: 54.6 };
/** Of its Fig. 4 and of the methods table here. */
const ALPHA = 0.05;

const mean = (list) => list.reduce((sum, x) => sum + x, 0) / list.length;
const deviation = (list) =>
  Math.sqrt(list.reduce((sum, x) => sum + (x - mean(list)) ** 2, 0) / Math.max(1, list.length - 1));
const withSpread = (list, digits = 3) => `${mean(list).toFixed(digits)} ± ${deviation(list).toFixed(digits)}`;

const signed = (list) => `${mean(list) < -0.0005 ? '' : '+'}${withSpread(list).replace('-0.000', '0.000')}`;

/** Losses of a kind of cell, one for each seed. */
function lossesOf({ seeds, cells }) {
  const byKey = new Map(
    cells.map((cell) => [`${cell.seed}/${cell.K}/${cell.method}/${cell.alpha}`, cell.loss]),
  );
  return (K, method, alpha) =>
    seeds.map((seed) => {
      const loss = byKey.get(`${seed}/${K}/${method}/${alpha}`);
      if (loss === undefined) throw new Error(`no loss of seed ${seed}, K=${K}, ${method}, alpha ${alpha}`);
      return loss;
    });
}

function secondsOf({ cells }, K, method) {
  const isOne = (cell) => cell.K === K && cell.method === method && cell.alpha === DISTILLED_ALPHA;
  return cells.filter(isOne).map(({ cpuSeconds }) => cpuSeconds);
}

const row = (...entries) => `| ${entries.join(' | ')} |`;
const table = (head, rows) => [row(...head), row(...head.map(() => '---')), ...rows].join('\n');

/** Markdown by the name of its place on the page. */
export function tables(report) {
  const losses = lossesOf(report);
  const multiHead = losses(HEADS, CONTINUED, 0);
  /** What the same text costs above the multi-head model of the same seed. */
  const rise = (K, method, alpha) => losses(K, method, alpha).map((loss, i) => loss - multiHead[i]);
  const every = (K, method) => ALPHAS.map((alpha) => withSpread(losses(K, method, alpha)));
  const alphas = ALPHAS.map((alpha) => `α = ${alpha}`);
  return {
    base: table(
      ['model', 'validation loss', 'each seed'],
      [row(`multi-head, K = ${HEADS}`, withSpread(multiHead), multiHead.map((x) => x.toFixed(4)).join(', '))],
    ),
    methods: table(
      ['method', `K = 1, α = 0`, `K = 1, α = ${ALPHA}`, `above multi-head`, `the paper's Fig. 4 (a score)`],
      METHODS.map((method) =>
        row(
          method,
          withSpread(losses(1, method, 0)),
          withSpread(losses(1, method, ALPHA)),
          signed(rise(1, method, ALPHA)),
          PAPER_METHODS[method] ?? 'not in the paper',
        ),
      ),
    ),
    alpha: table(
      ['K', 'method', ...alphas],
      [
        ...GROUPS.flatMap((K) => uptrainedMethods(K).map((method) => row(K, method, ...every(K, method)))),
        row(HEADS, 'none: multi-head, trained on', ...every(HEADS, CONTINUED)),
      ],
    ),
    distill: table(
      [
        'K',
        'similar, uptrained, α = 0.05',
        'similar, distilled',
        'above multi-head',
        'above multi-head, trained on',
        'processor seconds: uptrained, distilled',
      ],
      GROUPS.map((K) => {
        const distilled = losses(K, DISTILLED, DISTILLED_ALPHA);
        const continued = losses(HEADS, CONTINUED, DISTILLED_ALPHA);
        return row(
          K,
          withSpread(losses(K, 'similar', DISTILLED_ALPHA)),
          withSpread(distilled),
          signed(rise(K, DISTILLED, DISTILLED_ALPHA)),
          signed(distilled.map((loss, i) => loss - continued[i])),
          ['similar', DISTILLED].map((method) => mean(secondsOf(report, K, method)).toFixed(1)).join(', '),
        );
      }),
    ),
    conversion: table(
      ['K', ...METHODS, 'similar less mean, each seed'],
      GROUPS.map((K) => {
        const pooled = losses(K, 'mean', 0);
        const gains = losses(K, 'similar', 0).map((loss, i) => (loss - pooled[i]).toFixed(3));
        return row(K, ...METHODS.map((method) => withSpread(losses(K, method, 0))), gains.join(', '));
      }),
    ),
    groups: table(
      [
        'K',
        'KV cache',
        ...['mean', 'similar'].flatMap((method) => [0, ALPHA, 0.1].map((alpha) => `${method}, α = ${alpha}`)),
        'from scratch, α = 1',
      ],
      GROUPS.map((K) => {
        const cell = (method, alpha) => signed(rise(K, method, alpha));
        const converted = ['mean', 'similar'].flatMap((method) =>
          [0, ALPHA, 0.1].map((alpha) => cell(method, alpha)),
        );
        return row(
          K,
          `1/${HEADS / K}`,
          ...converted,
          SCRATCH_GROUPS.includes(K) ? cell(SCRATCH, 1) : 'not trained',
        );
      }),
    ),
    time: table(
      ['decoder', 'K', 'ms per token', 'times faster than K = N'],
      report.timing.map(({ decoder, K, milliseconds }) => {
        const { name, numHeads } = DECODERS[decoder];
        const all = report.timing.find((other) => other.decoder === decoder && other.K === numHeads);
        return row(name, K, milliseconds.toFixed(2), (all.milliseconds / milliseconds).toFixed(2));
      }),
    ),
  };
}

/** SVG by name. */
export function plots(report) {
  const losses = lossesOf(report);
  const points = (xs, at) => xs.map((x) => [x, mean(at(x)), deviation(at(x))]);
  const kinds = GROUPS.map((K, i) => ({ K, color: COLORS[i] }));
  const multiHead = mean(losses(HEADS, CONTINUED, 0));
  const reference = (first, last) => ({
    name: `multi-head, K = ${HEADS}`,
    color: '#555',
    dashed: true,
    points: [
      [first, multiHead],
      [last, multiHead],
    ],
  });
  const alpha = kinds.flatMap(({ K, color }) =>
    ['mean', 'similar'].map((method) => ({
      name: `K = ${K}, ${method}`,
      color,
      dashed: method === 'similar',
      points: points(ALPHAS, (share) => losses(K, method, share)),
    })),
  );
  const ticks = [...GROUPS].reverse();
  const quality = ['mean', 'similar'].flatMap((method) =>
    [ALPHA, 0.1].map((share, i) => ({
      name: `${method}, α = ${share}`,
      color: COLORS[i],
      dashed: method === 'similar',
      points: points(ticks, (K) => losses(K, method, share)),
    })),
  );
  const scratch = {
    name: 'trained from scratch',
    color: COLORS[3],
    points: points([...SCRATCH_GROUPS].reverse(), (K) => losses(K, SCRATCH, 1)),
  };
  const methods = METHODS.map((method, i) => ({
    name: method,
    color: COLORS[i],
    points: points(ALPHAS, (share) => losses(1, method, share)),
  }));
  const wide = report.timing.filter(({ decoder }) => decoder === 'wide');
  const yLabel = 'validation loss, nats per character';
  return {
    methods: linePlot({
      label: 'Validation loss of K = 1 by method and share of uptraining',
      series: [...methods, reference(0, 0.1)],
      ...{ ticks: ALPHAS, xLabel: 'α', yLabel },
    }),
    alpha: linePlot({
      label: 'Validation loss by share of uptraining for K = 3, 2 and 1',
      series: [...alpha, reference(0, 0.1)],
      ...{ ticks: ALPHAS, xLabel: 'α', yLabel },
    }),
    groups: linePlot({
      label: 'Validation loss by number of key/value heads',
      series: [...quality, scratch, reference(ticks[0], ticks.at(-1))],
      ...{ ticks, even: true, xLabel: 'key/value heads K', yLabel },
    }),
    time: linePlot({
      label: 'Milliseconds per decoded token by number of key/value heads',
      series: [
        {
          name: `${DECODERS.wide.name}, 32,768 tokens`,
          points: wide.map(({ K, milliseconds }) => [K, milliseconds, 0]),
        },
      ],
      ...{ ticks: wide.map(({ K }) => K), even: true, fromZero: true, legend: 'left' },
      ...{ xLabel: 'key/value heads K', yLabel: 'ms per token' },
    }),
  };
}
