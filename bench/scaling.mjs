/** How the cost of our attention grows: prefill with T and B, decode with S, K and B, each by threads. */
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

/** Each pair of rows where one number of the name doubles, with the ratios of their times and their work. */
export function growth(rows) {
  return rows.flatMap((to) =>
    rows
      .filter((from) => from.threads === to.threads && isDoubled(from, to))
      .map((from) => ({
        from: from.name,
        to: to.name,
        time: to.results[0].median / from.results[0].median,
        work: to.roof.kind === 'fma' ? to.flops / from.flops : to.bytes / from.bytes,
      })),
  );
}

/** Whether the names differ in one number (`decode S1024 K8`, `decode S2048 K8`), which doubles. */
function isDoubled(a, b) {
  const [from, to] = [a, b].map(({ name }) => name.split(/(\d+)/));
  const changed = to.flatMap((part, i) => (part === from[i] ? [] : [part / from[i]]));
  return from.length === to.length && changed.length === 1 && changed[0] === 2;
}
