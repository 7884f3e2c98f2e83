/**
 * The contender's side of the bench: answers requests that come as lines `command JSON` on stdin, with one line
 * `#bench JSON` each on stdout. Whatever else a library prints is passed over.
 */
import { createInterface } from 'node:readline';

/** Answers until stdin closes. `commands` maps a name to a function of the request's argument, which may be async. */
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
 * @returns each run's milliseconds, the processor time of one run, and the share of `threads` processors this process had.
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

/** Processor time since `cpu` (process.cpuUsage()), per run, and as a share of what `threads` processors had to give. */
export function usage(cpu, elapsed, runs, threads) {
  const { user, system } = process.cpuUsage(cpu);
  const used = (user + system) / 1000;
  return { cpu: used / runs, busy: used / elapsed / threads };
}
