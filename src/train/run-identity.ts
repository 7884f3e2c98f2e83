/** What the numbers of a run depend on, which is kept in its folder so that only the same run resumes there. */

/** The settings that determine a run's numbers; a run can resume only if all of them are equal. */
export type RunIdentity = Readonly<Record<string, string | number | null>>;

/** The options conflict with the run in the folder. */
export class RunConflictError extends Error {
  override readonly name = 'RunConflictError';
}

/** The first setting of `now` that differs from `before`. */
export function differentSetting(before: RunIdentity, now: RunIdentity): string | undefined {
  return Object.keys(now).find((name) => before[name] !== now[name]);
}

/**
 * How a run differs from the one that is to be resumed, for an error: `whose steps is 2, got 3`. Hashes, which say
 * nothing to a reader, are not shown.
 */
export function differenceText(before: RunIdentity, now: RunIdentity): string | undefined {
  const name = differentSetting(before, now);
  if (name === undefined) return undefined;
  const hashed = /^(.*)Hash$/.exec(name)?.[1];
  return hashed === undefined
    ? `whose ${name} is ${before[name] ?? null}, got ${now[name]}`
    : `got different ${hashed}`;
}

/** FNV-1a over token ids, or over bytes. @param hash of what comes before */
export function hashOf(values: ArrayLike<number>, hash = 0x811c9dc5): number {
  for (let i = 0; i < values.length; i++) hash = Math.imul(hash ^ values[i], 0x01000193);
  return hash >>> 0;
}
