/** Rows as text: one line per contender of a row. */

/** 0.01234 -> `12.3 µs`, 1234 -> `1.23 s`. */
export function duration(ms) {
  const [value, unit] = ms < 1 ? [ms * 1000, 'µs'] : ms < 1000 ? [ms, 'ms'] : [ms / 1000, 's'];
  return `${value.toPrecision(3).replace(/^(\d+)\.?e\+.*$/, () => value.toFixed(0))} ${unit}`;
}

export const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;

/** The cells of one contender's line, by column. `roof` is the row's roof in GFLOP/s or GB/s, if measured. */
export function cells(row, result, roof) {
  const out = { contender: result.contender };
  if (result.median !== undefined) {
    out.median = duration(result.median);
    out.min = duration(result.min);
    out.spread = percent(result.spread);
  }
  if (result.gflops !== undefined) {
    out['GFLOP/s'] = result.gflops.toFixed(1);
    out['GB/s'] = result.gbs.toFixed(1);
    if (roof) {
      out['of roof'] = percent(rate(row, result) / roof);
      out.best = percent((rate(row, result) * result.median) / result.min / roof);
    }
  }
  if (result.tokensPerSecond !== undefined) out['tokens/s'] = result.tokensPerSecond.toFixed(1);
  if (result.rssMiB !== undefined) out.RSS = `${result.rssMiB.toFixed(0)} MiB`;
  if (result.mostMiB !== undefined) out.most = `${result.mostMiB.toFixed(0)} MiB`;
  if (result.oursFaster !== undefined) out.ours = `${result.oursFaster.toFixed(2)}x`;
  if (result.sameTokens !== undefined) out.tokens = `${result.sameTokens} same`;
  // Other work on the machine took the processors away: the median says little, the best and the processor time more.
  if (result.busy !== undefined && result.busy < 0.85) {
    out.note = `had ${percent(result.busy)} of its processors`;
    if (row.threads === 1)
      out.cpu =
        duration(result.cpu) +
        (roof ? ` (${percent((rate(row, result) * result.median) / result.cpu / roof)})` : '');
  }
  return out;
}

/** What the row's roof bounds. */
function rate(row, result) {
  return row.roof.kind === 'fma' ? result.gflops : result.gbs;
}

/** One row for the terminal. */
export function rowText(row, roof) {
  const unit = row.roof?.kind === 'fma' ? 'GFLOP/s' : 'GB/s';
  const lines = [`${row.name}${roof ? `   (roof ${roof.toFixed(1)} ${unit})` : ''}`];
  for (const result of row.results) {
    const { contender, ...rest } = cells(row, result, roof);
    const parts = Object.entries(rest).map(([name, text]) => `${name} ${text}`);
    lines.push(`  ${contender.padEnd(13)}${parts.join('   ')}`);
  }
  for (const { contender, reason } of row.skipped) lines.push(`  ${contender.padEnd(13)}skipped: ${reason}`);
  return lines.join('\n');
}
