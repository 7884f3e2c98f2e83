/**
 * The contender's side of the bench. A request is a line `command JSON` on stdin, its answer a line `#bench
 * JSON` on stdout: `{ "ok": result }` or `{ "error": message }`. Other lines, which a library may print, are
 * ignored.
 */
import { createInterface } from 'node:readline';

/** Answers until stdin closes. `commands`: name -> a function (may be async) of the request's argument. */
export async function serve(commands) {
  for await (const line of createInterface({ input: process.stdin })) {
    const space = line.indexOf(' ');
    let answer;
    try {
      answer = { ok: await commands[line.slice(0, space)](JSON.parse(line.slice(space + 1))) };
    } catch (error) {
      answer = { error: String(error?.message ?? error).split('\n')[0] };
    }
    process.stdout.write(`#bench ${JSON.stringify(answer)}\n`);
  }
  process.exit(0);
}

/**
 * Runs `once` until `milliseconds` have passed, at least once.
 * @returns `times`: milliseconds of each run; `cpu` and `busy`: see `usage`
 */
export async function sample(once, milliseconds, threads) {
  globalThis.gc?.();
  const times = [];
  const cpu = process.cpuUsage();
  const start = performance.now();
  let now = start;
  do {
    const before = now;
    const pending = once();
    if (pending) await pending;
    now = performance.now();
    times.push(now - before);
  } while (now - start < milliseconds);
  return { times, ...usage(cpu, now - start, times.length, threads) };
}

/**
 * Processor time since `cpu` (a result of process.cpuUsage()).
 * @returns `cpu`: milliseconds per run; `busy`: its share of `threads` times the elapsed time
 */
export function usage(cpu, elapsed, runs, threads) {
  const { user, system } = process.cpuUsage(cpu);
  const used = (user + system) / 1000;
  return { cpu: used / runs, busy: used / elapsed / threads };
}
