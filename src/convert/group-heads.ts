/**
 * Groups heads by similarity, in groups of equal size: starts with neighbours, and makes the swap with the
 * largest gain until no swap gains.
 */
import { neighbourGroups } from './head-mix.ts';

/**
 * @param similarity `[K, K]`, symmetric; larger is more similar
 * @returns the heads of each group, ascending; groups by their first head. The same input gives the same
 * groups
 */
export function similarGroups(similarity: Float64Array, heads: number, groups: number): number[][] {
  const out = neighbourGroups(heads, groups);
  if (groups === 1 || groups === heads) return out;
  /** The summed similarity of a head to a group, `without` left out. */
  const tie = (head: number, group: readonly number[], without: number) =>
    group.reduce(
      (sum, other) => (other === head || other === without ? sum : sum + similarity[head * heads + other]),
      0,
    );
  for (let swaps = 0; swaps < heads * heads; swaps++) {
    let best = { gain: 1e-9, a: 0, i: 0, b: 0, j: 0 };
    for (let a = 0; a < groups; a++) {
      for (let b = a + 1; b < groups; b++) {
        for (let i = 0; i < out[a].length; i++) {
          for (let j = 0; j < out[b].length; j++) {
            const [x, y] = [out[a][i], out[b][j]];
            const now = tie(x, out[a], -1) + tie(y, out[b], -1);
            const then = tie(x, out[b], y) + tie(y, out[a], x);
            if (then - now > best.gain) best = { gain: then - now, a, i, b, j };
          }
        }
      }
    }
    if (best.gain <= 1e-9) break;
    const { a, i, b, j } = best;
    [out[a][i], out[b][j]] = [out[b][j], out[a][i]];
  }
  for (const group of out) group.sort((x, y) => x - y);
  return out.sort((x, y) => x[0] - y[0]);
}
