/** The loss of a run over its steps, beside those of the original and of the conversion. */
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import { nats } from '../format.ts';
import { theme } from '../theme.ts';
import type { TrainStep } from '../worker/recover.ts';

const HEIGHT = 260;
const NAMES = ['Step', 'Training batch, smoothed', 'Held-out text', 'Original', 'Converted'];

interface Losses {
  readonly run: readonly TrainStep[];
  readonly steps: number;
  readonly original: number | undefined;
  readonly converted: number | undefined;
}

export function LossChart(props: Losses) {
  const place = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot>(undefined);
  const colors = theme.value;
  useEffect(() => {
    const parent = place.current as HTMLDivElement;
    const made = new uPlot(optionsFor(parent), [[], [], [], [], []], parent);
    chart.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: parent.clientWidth, height: HEIGHT }));
    observer.observe(parent);
    return () => {
      observer.disconnect();
      made.destroy();
    };
  }, [colors]);
  useEffect(
    () => chart.current?.setData(dataOf(props)),
    [props.run, props.original, props.converted, props.steps, colors],
  );
  return (
    <figure class="chart">
      <div class="legend" aria-hidden="true">
        {NAMES.slice(1).map((name, i) => (
          <span key={name} class={`series-${i}`}>
            {name}
          </span>
        ))}
      </div>
      <div ref={place} role="img" aria-label={summary(props)} />
      <figcaption>Loss (nats per token) over the steps of uptraining.</figcaption>
    </figure>
  );
}

function dataOf({ run, steps, original, converted }: Losses): uPlot.AlignedData {
  const x = [0, ...run.map(({ step }) => step)];
  if (x[x.length - 1] < steps) x.push(steps);
  let mean: number | undefined;
  const smooth = run.map(({ loss }) => {
    mean = mean === undefined ? loss : 0.9 * mean + 0.1 * loss;
    return mean;
  });
  const fill = <T,>(values: (T | null)[]) => [...values, ...new Array(x.length - values.length).fill(null)];
  return [
    x,
    fill([null, ...smooth]),
    fill([converted ?? null, ...run.map(({ heldOutLoss }) => heldOutLoss ?? null)]),
    x.map(() => original ?? null),
    x.map(() => converted ?? null),
  ];
}

function summary({ run, original, converted }: Losses): string {
  const last = run.findLast(({ heldOutLoss }) => heldOutLoss !== undefined);
  const now = last === undefined ? 'not trained yet' : `${nats(last.heldOutLoss)} after ${last.step} steps`;
  return `Loss: ${nats(original)} of the original, ${nats(converted)} converted, ${now}.`;
}

function optionsFor(parent: HTMLElement): uPlot.Options {
  const color = (name: string) => getComputedStyle(parent).getPropertyValue(name);
  const [ink, line] = [color('--soft'), color('--line')];
  const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
  return {
    width: parent.clientWidth,
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    scales: {
      x: { time: false },
      y: { range: (_, min, max) => [Math.floor(10 * (min - 0.05)) / 10, Math.ceil(10 * (max + 0.05)) / 10] },
    },
    axes: [axis, { ...axis, size: 44 }],
    series: [
      {},
      { stroke: color('--series-0'), width: 1.5, points: { show: false } },
      { stroke: color('--series-1'), width: 2.5, spanGaps: true, points: { show: true, size: 7 } },
      { stroke: color('--series-2'), width: 1.5, dash: [6, 4], points: { show: false } },
      { stroke: color('--series-3'), width: 1.5, dash: [2, 4], points: { show: false } },
    ],
  };
}
