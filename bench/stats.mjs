/** Statistics of a row's times. */

function quantile(sorted, q) {
  const at = (sorted.length - 1) * q;
  const low = Math.floor(at);
  return sorted[low] + (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]) * (at - low);
}

export function median(values) {
  return quantile(
    [...values].sort((a, b) => a - b),
    0.5,
  );
}

/** Median, minimum, and spread: the interquartile range as a share of the median. */
export function summarize(times) {
  const sorted = times.toSorted((a, b) => a - b);
  const middle = quantile(sorted, 0.5);
  return {
    median: middle,
    min: sorted[0],
    spread: (quantile(sorted, 0.75) - quantile(sorted, 0.25)) / middle,
    samples: sorted.length,
  };
}
