/** Rows as text for the terminal: one line per contender. */

/** Milliseconds as text: 0.01234 -> `12.3 µs`, 1234 -> `1.23 s`. */
export function duration(ms) {
  const [value, unit] = ms < 1 ? [ms * 1000, 'µs'] : ms < 1000 ? [ms, 'ms'] : [ms / 1000, 's'];
  return `${value.toPrecision(3).replace(/^(\d+)\.?e\+.*$/, () => value.toFixed(0))} ${unit}`;
}

export const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;

/** The cells of a contender's line, label -> text. `roof`: the row's roof in GFLOP/s or GB/s, if measured. */
export function cells(row, result, roof) {
  const out = { contender: result.contender };
  if (result.median !== undefined) {
    out.median = duration(result.median);
    out.min = duration(result.min);
    out.spread = percent(result.spread);
  }
  if (result.gflops !== undefined) out['GFLOP/s'] = result.gflops.toFixed(1);
  if (result.gbs !== undefined) {
    out['GB/s'] = result.gbs.toFixed(1);
    if (roof) {
      out['of roof'] = percent(rate(row, result) / roof);
      out['of roof by min'] = percent((rate(row, result) * result.median) / result.min / roof);
    }
  }
  if (result.tokensPerSecond !== undefined) out['tokens/s'] = result.tokensPerSecond.toFixed(1);
  if (result.rssMiB !== undefined) out.RSS = `${result.rssMiB.toFixed(0)} MiB`;
  if (result.mostMiB !== undefined) out['peak RSS'] = `${result.mostMiB.toFixed(0)} MiB`;
  if (result.oursFaster !== undefined) out.gqa = `${result.oursFaster.toFixed(2)}x as fast`;
  if (result.sameTokens !== undefined) out['first equal tokens'] = String(result.sameTokens);
  // Other programs used the processors: minimum and processor time are then more reliable than the median.
  if (result.busy !== undefined && result.busy < 0.85) {
    out['processor time'] = `${percent(result.busy)} of the threads' time`;
    if (row.threads === 1)
      out.cpu =
        duration(result.cpu) +
        (roof ? ` (${percent((rate(row, result) * result.median) / result.cpu / roof)})` : '');
  }
  return out;
}

/** The figure that the row's roof limits. */
export function rate(row, result) {
  return row.roof.kind === 'read' ? result.gbs : result.gflops;
}

/** One row for the terminal. */
export function rowText(row, roof) {
  const unit = row.roof?.kind === 'read' ? 'GB/s' : 'GFLOP/s';
  const lines = [`${row.name}${roof ? `   (roof ${roof.toFixed(1)} ${unit})` : ''}`];
  for (const result of row.results) {
    const { contender, ...rest } = cells(row, result, roof);
    const parts = Object.entries(rest).map(([name, text]) => `${name} ${text}`);
    lines.push(`  ${contender.padEnd(13)}${parts.join('   ')}`);
  }
  for (const { contender, reason } of row.skipped) lines.push(`  ${contender.padEnd(13)}skipped: ${reason}`);
  return lines.join('\n');
}
