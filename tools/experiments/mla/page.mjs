/** The tables and the plot of docs/experiments/mla.md. */
import { COLORS, linePlot } from '../line-plot.mjs';

/** The rows of the table: each cell's name on the page. */
const NAMES = {
  original: 'grouped queries, K = 3: the original',
  mean: 'grouped queries, K = 1: `mean`',
  similar: 'grouped queries, K = 1: `similar`',
  weights: 'latent, 64 + L: components of the weights',
  transmla: 'latent, 64 + L: components of the activations (TransMLA)',
  care: 'latent, 64 + L: the same, rank by layer (CARE)',
  freqfold: 'latent, 32 + L: two frequencies folded (TransMLA)',
  dearest: 'latent, 32 + L: pairs by cost',
  dearest16: 'latent, 16 + L: pairs by cost',
  attention: 'latent, 32 + L: pairs by cost, errors weighted',
};
const PLOTTED = ['transmla', 'dearest'];

const mean = (list) => list.reduce((sum, value) => sum + value, 0) / list.length;
const row = (...entries) => `| ${entries.join(' | ')} |`;
const table = (head, rows) => [row(...head), row(...head.map(() => '---')), ...rows].join('\n');

/** Every cell as `{ name, total, each }`, by size of the cache and loss. */
function cellsOf({ losses }) {
  return Object.entries(losses)
    .map(([key, each]) => {
      const [name, total] = key.split(' ');
      return { name, total: Number(total), each };
    })
    .sort((a, b) => b.total - a.total || mean(a.each) - mean(b.each));
}

/** Markdown by the name of its place on the page. */
export function tables(results, texts) {
  const cells = cellsOf(results);
  const perplexity = (loss) => Number(Math.exp(loss).toPrecision(3)).toLocaleString('en-US');
  return {
    ranks: table(
      ['values per token and layer', 'attention', ...texts, 'mean', 'perplexity'],
      cells.map(({ name, total, each }) =>
        row(
          total,
          NAMES[name],
          ...each.map((loss) => loss.toFixed(2)),
          mean(each).toFixed(2),
          perplexity(mean(each)),
        ),
      ),
    ),
    exactness: table(
      ['step', 'largest change of a logit, relative to the largest logit'],
      results.exactness.map(([step, difference]) => row(step, difference.toExponential(1))),
    ),
    whitening: `On layer 15, with 128 numbers for keys and values, the two differ by ${results.whitening.toExponential(1)} of the outputs' size, the rounding of f32.`,
  };
}

/** Mean loss by the size of the cache. */
export function plot(results) {
  const cells = cellsOf(results);
  const points = (name) =>
    cells
      .filter((cell) => cell.name === name)
      .map(({ total, each }) => [total, mean(each), 0])
      .reverse();
  const original = points('original')[0][1];
  const series = PLOTTED.map((name, i) => ({
    name: NAMES[name].replaceAll('`', ''),
    points: points(name),
    color: COLORS[i],
  }));
  series.push({ name: NAMES.similar.replaceAll('`', ''), points: points('similar'), color: COLORS[2] });
  series.push({
    name: NAMES.original,
    points: [
      [96, original],
      [384, original],
    ],
    color: '#6b7280',
    dashed: true,
  });
  return linePlot({
    label:
      'Mean held-out loss by numbers per token and layer in the cache, for latent attention and fewer heads',
    series,
    ticks: [96, 128, 192, 256, 384],
    xLabel: 'values per token and layer',
    yLabel: 'mean loss, nats per token',
  });
}
