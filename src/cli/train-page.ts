/** One self-contained HTML page with the curves of a run: SVG made by hand, no script, no network. */

export interface CurvePoint {
  readonly step: number;
  readonly value: number;
}

export interface Curve {
  readonly name: string;
  readonly color: string;
  readonly points: readonly CurvePoint[];
}

const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT] = [860, 300, 64, 32, 12, 12];

/** The page. `facts` are name and value pairs for the table above the curves. */
export function trainPage(
  title: string,
  facts: readonly (readonly [string, string])[],
  charts: readonly { readonly title: string; readonly curves: readonly Curve[] }[],
  sample: string | undefined,
): string {
  const rows = facts.map(
    ([name, value]) => `<tr><th>${escapeText(name)}</th><td>${escapeText(value)}</td></tr>`,
  );
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>${escapeText(title)}</title>
<style>
body { font: 14px/1.5 system-ui, sans-serif; max-width: 900px; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff; }
h1 { font-size: 1.3rem; } h2 { font-size: 1rem; margin: 1.5rem 0 .3rem; }
th { text-align: left; font-weight: 500; padding-right: 1.5rem; color: #666; } svg { width: 100%; height: auto; }
pre { white-space: pre-wrap; background: #f5f5f5; padding: .8rem; border-radius: 4px; }
text { font: 11px system-ui, sans-serif; fill: #555; } .grid { stroke: #e4e4e4; }
</style></head><body>
<h1>${escapeText(title)}</h1>
<table>${rows.join('')}</table>
${charts.map(({ title: name, curves }) => `<h2>${escapeText(name)}</h2>\n${chart(curves)}`).join('\n')}
${sample === undefined ? '' : `<h2>Sample</h2><pre>${escapeText(sample)}</pre>`}
</body></html>
`;
}

function chart(curves: readonly Curve[]): string {
  const points = curves.flatMap((curve) => curve.points);
  if (points.length === 0) return '<p>nothing yet</p>';
  const maxStep = Math.max(1, ...points.map(({ step }) => step));
  const values = points.map(({ value }) => value).filter(Number.isFinite);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const ticks = niceTicks(low, high);
  const [bottom, top] = [Math.min(low, ticks[0]), Math.max(high, ticks[ticks.length - 1])];
  const x = (step: number) => LEFT + (step / maxStep) * (WIDTH - LEFT - RIGHT);
  const y = (value: number) => TOP + (1 - (value - bottom) / (top - bottom || 1)) * (HEIGHT - TOP - BOTTOM);
  const grid = ticks.map(
    (tick) =>
      `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(tick).toFixed(1)}" y2="${y(tick).toFixed(1)}"/>` +
      `<text x="${LEFT - 6}" y="${(y(tick) + 4).toFixed(1)}" text-anchor="end">${Number(tick.toPrecision(6))}</text>`,
  );
  const steps = niceTicks(0, maxStep).filter((step) => step <= maxStep);
  const labels = steps.map(
    (step) => `<text x="${x(step).toFixed(1)}" y="${HEIGHT - 12}" text-anchor="middle">${step}</text>`,
  );
  const lines = curves.map(({ color, points: own }) => {
    const path = own.map(({ step, value }) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`).join(' ');
    return `<polyline fill="none" stroke="${color}" stroke-width="1.5" points="${path}"/>`;
  });
  const legend = curves.map(
    ({ name, color }, i) =>
      `<text x="${WIDTH - RIGHT - 8}" y="${TOP + 14 + 16 * i}" text-anchor="end" style="fill:${color}">${escapeText(name)}</text>`,
  );
  return `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img">${[...grid, ...labels, ...lines, ...legend].join('')}</svg>`;
}

/** Four to nine round numbers from at most `low` to at least `high`. */
function niceTicks(low: number, high: number): number[] {
  const span = high - low || Math.abs(high) || 1;
  const rough = span / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough) ?? power * 10;
  const ticks: number[] = [];
  for (let tick = Math.floor(low / step); tick * step < high + step; tick++) ticks.push(tick * step);
  return ticks;
}

function escapeText(text: string): string {
  return text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c] ?? c);
}
