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

/** FNV-1a over token ids, or over the bytes of a text. */
export function hashOf(values: ArrayLike<number>): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < values.length; i++) hash = Math.imul(hash ^ values[i], 0x01000193);
  return hash >>> 0;
}
