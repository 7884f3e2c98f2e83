/** A horizontal bar chart with values, as SVG. */
import { escapeHtml, svg } from './html-page.ts';

export interface Bar {
  readonly name: string;
  readonly color: string;
  readonly value: number;
  /** The value as displayed. */
  readonly text: string;
}

const [WIDTH, NAME, VALUE, STEP, TALL] = [420, 96, 110, 30, 20];

/** @param label description of the chart */
export function barChart(bars: readonly Bar[], label: string): string {
  const most = Math.max(1e-300, ...bars.map(({ value }) => value));
  const parts = bars.flatMap(({ name, color, value, text }, i) => {
    const long = Math.max(1, (value / most) * (WIDTH - NAME - VALUE));
    const [y, middle] = [i * STEP + 5, i * STEP + 5 + TALL / 2 + 4];
    return [
      `<text x="${NAME - 8}" y="${middle}" text-anchor="end">${escapeHtml(name)}</text>`,
      `<rect x="${NAME}" y="${y}" width="${long.toFixed(1)}" height="${TALL}" rx="2" fill="${color}"/>`,
      `<text x="${(NAME + long + 6).toFixed(1)}" y="${middle}">${escapeHtml(text)}</text>`,
    ];
  });
  return svg(WIDTH, bars.length * STEP + 10, label, parts);
}
