/** How our cost grows: prefill over T, decode over S and K, threads, batch. */
import { measureAttention } from './rows.mjs';

export async function scaling(options) {
  const { threads, rotateBytes, quick } = options;
  const base = { section: 'scaling', contenders: ['native'], threads };
  const upTo = (values) => (quick ? values.slice(0, 2) : values);
  for (const T of upTo([256, 512, 1024, 2048, 4096])) {
    const shape = { B: 1, T, S: T, N: 32, K: 8, H: 128, causal: true, dtype: 'f32' };
    await measureAttention({ ...base, name: `prefill T${T} K8 H128`, shape, roof: 'fma' }, options);
  }
  const decode = { B: 1, T: 1, S: 4096, N: 32, K: 8, H: 128, causal: false, dtype: 'f32', rotateBytes };
  for (const S of upTo([1024, 2048, 4096, 8192, 16384])) {
    await measureAttention(
      { ...base, name: `decode S${S} K8`, shape: { ...decode, S }, roof: 'read' },
      options,
    );
  }
  for (const K of upTo([32, 16, 4, 2, 1])) {
    await measureAttention(
      { ...base, name: `decode S4096 K${K}`, shape: { ...decode, K }, roof: 'read' },
      options,
    );
  }
  for (const B of upTo([1, 2, 4, 8])) {
    const shape = { ...decode, B, S: 1024 };
    await measureAttention({ ...base, name: `decode B${B} S1024 K8`, shape, roof: 'read' }, options);
    const prompt = { B, T: 256, S: 256, N: 32, K: 8, H: 64, causal: true, dtype: 'f32' };
    await measureAttention({ ...base, name: `prefill B${B} T256 H64`, shape: prompt, roof: 'fma' }, options);
  }
}

/** Growth of the median from each row to the one after it in a series, where the work doubles: `[from, to, ratio, work ratio]`. */
export function growth(rows) {
  const out = [];
  const series = (row) => `${row.name.replace(/[TSKB]\d+/, '').split(',')[0]} ${row.threads}`;
  for (const row of rows) {
    const before = rows.find((other) => series(other) === series(row) && isHalf(other.shape, row.shape));
    if (!before) continue;
    const work = row.roof.kind === 'fma' ? row.flops / before.flops : row.bytes / before.bytes;
    out.push({
      from: before.name,
      to: row.name,
      time: row.results[0].median / before.results[0].median,
      work,
    });
  }
  return out;
}

function isHalf(a, b) {
  const differing = ['B', 'T', 'S', 'K'].filter((name) => a[name] !== b[name]);
  return a.roof === b.roof && differing.length > 0 && differing.every((name) => 2 * a[name] === b[name]);
}
