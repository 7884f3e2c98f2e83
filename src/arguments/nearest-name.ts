/** The known name closest to a wrong one: another spelling, a part of it, or a typo. */

/** Abbreviations in names of other libraries. */
const WORDS: Readonly<Record<string, string>> = {
  n: 'num',
  kv: 'key value',
  q: 'query',
  lr: 'learning rate',
  attn: 'attention',
  p: 'rate',
  prob: 'rate',
  seqlen: 'seq length',
  len: 'length',
  sliding: 'local',
  logit: 'logits',
  lse: 'log sum exp',
  dim: 'axis',
};

/** @returns the nearest of `known` (the first on a tie); undefined when none is near */
export function nearestName(name: string, known: readonly string[]): string | undefined {
  const wanted = wordsOf(name);
  let nearest: string | undefined;
  let least = Infinity;
  for (const candidate of known) {
    const distance = distanceOf(wanted, wordsOf(candidate));
    if (distance >= least) continue;
    least = distance;
    nearest = candidate;
  }
  return nearest;
}

/** `num_kv_heads` and `numKeyValueHeads` are the same words. */
function wordsOf(name: string): readonly string[] {
  const words = name
    .replace(/([a-z0-9])([A-Z])|([A-Z])([A-Z][a-z])/g, '$1$3 $2$4')
    .toLowerCase()
    .split(/[^a-z0-9]+/)
    .filter(Boolean);
  return words.flatMap((word) => (Object.hasOwn(WORDS, word) ? WORDS[word].split(' ') : word));
}

/**
 * 0 for the same words in any order, below 1 when one contains the other, then by edits and shared words;
 * Infinity when not near.
 */
function distanceOf(a: readonly string[], b: readonly string[]): number {
  const [one, other] = [a.join(''), b.join('')];
  if (one === other || [...a].sort().join() === [...b].sort().join()) return 0;
  const longer = Math.max(one.length, other.length);
  const shared = a.filter((word) => b.includes(word));
  const isPart = (one.length > 2 && other.includes(one)) || (other.length > 2 && one.includes(other));
  if (isPart || (shared.length > 0 && shared.length === Math.min(a.length, b.length))) {
    return Math.abs(one.length - other.length) / longer;
  }
  const edits = editDistance(one, other);
  if (edits <= Math.ceil(longer / 4)) return edits;
  return 2 * shared.length >= Math.max(a.length, b.length) ? longer + edits : Infinity;
}

/** Levenshtein distance: letters to insert, remove or replace. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(next[j - 1] + 1, row[j] + 1, row[j - 1] + Number(a[i - 1] !== b[j - 1]));
    }
    row = next;
  }
  return row[b.length];
}
