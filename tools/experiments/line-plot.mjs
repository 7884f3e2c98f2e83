/** A line plot as SVG text: lines with whiskers, dashed reference lines, a legend. */

export const COLORS = ['#2563a8', '#c2410c', '#4d7c0f', '#7e22ce', '#0f766e'];
const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [720, 340, 64, 16, 14, 48];

/**
 * @param plot
 *   label: what it shows, for readers of screens.
 *   series: `{ name, points: [[x, y, spread?], …], color?, dashed? }`; the spread is drawn above and below y.
 *   ticks: the x values that are marked. even: they stand at equal distances.
 *   xLabel, yLabel; legend: 'left' or 'right'; fromZero: the y axis begins at 0.
 */
export function linePlot(plot) {
  const { label, series, ticks, even = false, xLabel, yLabel } = plot;
  const { legend = 'right', fromZero = false } = plot;
  const all = series.flatMap(({ points }) => points.flatMap(([, y, spread = 0]) => [y - spread, y + spread]));
  const { low, high, step } = roundScale(fromZero ? 0 : Math.min(...all), Math.max(...all));
  const [first, last] = [ticks[0], ticks.at(-1)];
  const inset = even ? 24 : 0;
  const place = (value) =>
    even ? ticks.indexOf(value) / (ticks.length - 1) : (value - first) / (last - first);
  const x = (value) => (LEFT + inset + place(value) * (WIDTH - LEFT - RIGHT - 2 * inset)).toFixed(1);
  const y = (value) => (TOP + ((high - value) / (high - low)) * (HEIGHT - TOP - BOTTOM)).toFixed(1);
  const out = [];
  for (let value = low; value < high + step / 2; value += step) {
    out.push(`<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(value)}" y2="${y(value)}" stroke="#ddd"/>`);
    const at = (Number(y(value)) + 4).toFixed(1);
    out.push(
      `<text x="${LEFT - 6}" y="${at}" text-anchor="end">${value.toFixed(Math.max(0, -Math.floor(Math.log10(step) + 1e-9)))}</text>`,
    );
  }
  for (const tick of ticks) {
    out.push(`<text x="${x(tick)}" y="${HEIGHT - BOTTOM + 18}" text-anchor="middle">${tick}</text>`);
  }
  const middle = (LEFT + WIDTH - RIGHT) / 2;
  if (xLabel) out.push(`<text x="${middle}" y="${HEIGHT - 8}" text-anchor="middle">${xLabel}</text>`);
  if (yLabel) {
    const center = (TOP + HEIGHT - BOTTOM) / 2;
    out.push(`<text transform="translate(14 ${center}) rotate(-90)" text-anchor="middle">${yLabel}</text>`);
  }
  series.forEach(({ name, points, color, dashed }, index) => {
    const stroke = color ?? COLORS[index % COLORS.length];
    const line = points.map(([at, value]) => `${x(at)},${y(value)}`).join(' ');
    const dash = dashed ? ' stroke-dasharray="5 4"' : '';
    out.push(`<polyline fill="none" stroke="${stroke}" stroke-width="2"${dash} points="${line}"/>`);
    for (const [at, value, spread] of points) {
      if (spread === undefined) continue;
      const [top, bottom] = [y(value + spread), y(value - spread)];
      out.push(`<line x1="${x(at)}" x2="${x(at)}" y1="${top}" y2="${bottom}" stroke="${stroke}"/>`);
      out.push(`<circle cx="${x(at)}" cy="${y(value)}" r="3" fill="${stroke}"/>`);
    }
    const [sample, text, anchor] =
      legend === 'left' ? [LEFT + 8, LEFT + 40, 'start'] : [WIDTH - RIGHT - 30, WIDTH - RIGHT - 36, 'end'];
    const row = TOP + 16 + 17 * index;
    const ends = `x1="${sample}" x2="${sample + 26}" y1="${row - 4}" y2="${row - 4}"`;
    out.push(`<line ${ends} stroke="${stroke}" stroke-width="2"${dash}/>`);
    out.push(`<text x="${text}" y="${row}" text-anchor="${anchor}" style="fill:${stroke}">${name}</text>`);
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="system-ui, sans-serif" font-size="12" role="img" aria-label="${label}"><rect width="100%" height="100%" fill="#fff"/>${out.join('')}</svg>\n`;
}

/** The range widened to multiples of a round step, about five of them. */
function roundScale(least, most) {
  const rough = (most - least) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.99);
  return { low: Math.floor(least / step) * step, high: Math.ceil(most / step) * step, step };
}
