/** Numbers as text. */

const whole = new Intl.NumberFormat('en');

/** `6,144` */
export const count = (value: number): string => whole.format(value);

/** Decimal units, as the field gives sizes per token: `2.62 MB`. */
export function bytes(value: number): string {
  return inUnits(value, 1000, ['B', 'kB', 'MB', 'GB', 'TB', 'PB']);
}

/** Binary units, as memory is sold: `24 GiB`. */
export function binaryBytes(value: number): string {
  return inUnits(value, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']);
}

function inUnits(value: number, step: number, units: readonly string[]): string {
  const power = value < step ? 0 : Math.min(units.length - 1, Math.floor(Math.log(value) / Math.log(step)));
  const scaled = value / step ** power;
  const digits = power === 0 ? 0 : scaled < 10 ? 2 : scaled < 100 ? 1 : 0;
  return `${power === 0 ? count(Math.round(scaled)) : scaled.toFixed(digits)} ${units[power]}`;
}

/** `31 %` */
export const percent = (share: number): string => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;

/** `1.367` */
export const nats = (loss: number | undefined): string => (loss === undefined ? '…' : loss.toFixed(3));

/** A token's text where it must be visible: a space as ␣, a line end as ↵. */
export const visible = (token: string): string =>
  token.replaceAll(' ', '␣').replaceAll('\n', '↵').replaceAll('\t', '⇥');
