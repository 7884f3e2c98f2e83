/** A line chart over steps, as SVG, with a grid at round numbers. */
import { grouped } from '../arguments/inspect.ts';
import { legend, svg, svgOfPageWidth } from './html-page.ts';
import { niceTicks } from './nice-ticks.ts';

export interface CurvePoint {
  readonly step: number;
  readonly value: number;
}

export interface Curve {
  readonly name: string;
  readonly color: string;
  readonly points: readonly CurvePoint[];
  /** For reference values. */
  readonly dashed?: boolean;
}

const [HEIGHT, LEFT, BOTTOM, TOP, RIGHT] = [300, 56, 40, 12, 16];
/** Width of a tick label, including the gap to the next. */
const TICK_WIDTH = 64;

/**
 * @param label description of the chart
 * @param unit of the horizontal axis
 */
export function lineChart(curves: readonly Curve[], label: string, unit = 'step'): string {
  const isEmpty = !curves.some(({ points }) => points.some(({ value }) => Number.isFinite(value)));
  if (isEmpty) return '<p class="note">nothing yet</p>';
  return `${legend(curves)}${svgOfPageWidth((width) => picture(curves, label, unit, width))}`;
}

function picture(curves: readonly Curve[], label: string, unit: string, WIDTH: number): string {
  const points = curves.flatMap((curve) => curve.points);
  const values = points.map(({ value }) => value).filter(Number.isFinite);
  const maxStep = Math.max(1, ...points.map(({ step }) => step));
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const ticks = niceTicks(low, high);
  const [bottom, top] = [Math.min(low, ticks[0]), Math.max(high, ticks[ticks.length - 1])];
  const x = (step: number) => LEFT + (step / maxStep) * (WIDTH - LEFT - RIGHT);
  const y = (value: number) => TOP + (1 - (value - bottom) / (top - bottom || 1)) * (HEIGHT - TOP - BOTTOM);
  const parts = ticks.flatMap((tick) => [
    `<path d="M${LEFT} ${y(tick).toFixed(1)}H${WIDTH - RIGHT}" stroke="var(--line)"/>`,
    `<text x="${LEFT - 6}" y="${(y(tick) + 4).toFixed(1)}" text-anchor="end">${Number(tick.toPrecision(6))}</text>`,
  ]);
  const steps = niceTicks(0, maxStep).filter((tick) => tick <= maxStep && Number.isInteger(tick));
  const every = Math.ceil((steps.length * TICK_WIDTH) / (WIDTH - LEFT - RIGHT));
  for (const step of steps.filter((_, i) => i % every === 0)) {
    const text = grouped(step);
    parts.push(`<text x="${x(step).toFixed(1)}" y="${HEIGHT - 22}" text-anchor="middle">${text}</text>`);
  }
  parts.push(`<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 4}" text-anchor="middle">${unit}</text>`);
  for (const { color, points: own, dashed } of curves) {
    const path = own.map(({ step, value }) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`).join(' ');
    const style = dashed ? 'stroke-width="1.5" stroke-dasharray="5 4"' : 'stroke-width="2"';
    parts.push(`<polyline fill="none" stroke="${color}" ${style} stroke-linejoin="round" points="${path}"/>`);
    // Few enough points to have been measured one by one.
    if (dashed || own.length > 30) continue;
    for (const { step, value } of own) {
      parts.push(
        `<circle cx="${x(step).toFixed(1)}" cy="${y(value).toFixed(1)}" r="3" fill="${color}"><title>${unit} ${step}: ${value.toFixed(4)}</title></circle>`,
      );
    }
  }
  return svg(WIDTH, HEIGHT, label, parts);
}
