/** The attention of one query head as a picture: a row per query token. */
import { useEffect, useRef } from 'preact/hooks';
import { percent } from '../format.ts';
import { theme } from '../theme.ts';
import type { Attention } from '../worker/look.ts';

export function HeadMap(props: {
  attention: Attention;
  index: number;
  label: string;
  change: number | undefined;
  row: number;
  isChosen: boolean;
  onChoose: () => void;
  onRow: (row: number) => void;
}) {
  const { attention, index, label, change, row, isChosen, onChoose, onRow } = props;
  const canvas = useRef<HTMLCanvasElement>(null);
  const T = attention.tokens.length;
  const colors = theme.value;
  useEffect(() => {
    if (canvas.current && T > 0) draw(canvas.current, attention, index);
  }, [attention, index, colors]);
  return (
    <button
      type="button"
      class={`map ${isChosen ? 'chosen' : ''}`}
      aria-pressed={isChosen}
      onClick={onChoose}
      onPointerMove={(event) => {
        const { top, height } = (canvas.current as HTMLElement).getBoundingClientRect();
        const at = Math.floor(((event.clientY - top) / height) * T);
        if (at >= 0 && at < T) onRow(at);
      }}
    >
      <span class="picture">
        <canvas ref={canvas} width={T} height={T} />
        <i style={{ top: `${(100 * row) / T}%`, height: `${100 / T}%` }} />
      </span>
      <span class="caption">
        {label} {change !== undefined && <small>changed {percent(change)}</small>}
      </span>
    </button>
  );
}

function draw(canvas: HTMLCanvasElement, { tokens, weights }: Attention, index: number): void {
  const T = tokens.length;
  const style = getComputedStyle(canvas);
  const [ground, ink] = [rgb(style.backgroundColor), rgb(style.color)];
  const image = new ImageData(T, T);
  for (let i = 0; i < T * T; i++) {
    // The square root makes small weights visible.
    const share = Math.sqrt(weights[index * T * T + i]);
    for (let channel = 0; channel < 3; channel++)
      image.data[4 * i + channel] = ground[channel] + (ink[channel] - ground[channel]) * share;
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext('2d')?.putImageData(image, 0, 0);
}

/** `rgb(1, 2, 3)` as numbers. */
function rgb(color: string): number[] {
  return (color.match(/[\d.]+/g) ?? ['0', '0', '0']).slice(0, 3).map(Number);
}
