/** Progress of long work: a bar on stderr if that is a terminal, else plain lines, at most one in ten seconds. */
import { duration, writeNote } from './output.ts';
import { bar, clearStatus, hasStatusLine, showStatus, terminalWidth } from './status-line.ts';

/** Time between two plain lines. */
const PLAIN_MS = 10_000;
/** The time left is shown once this much of the work is behind it. */
const ESTIMATE_MS = 3000;

export interface Progress {
  /** @param done of `total`, in the same unit @param label a new label, from this call on */
  update(done: number, total: number, label?: string): void;
  /** Removes the bar. Safe to call twice. */
  stop(): void;
}

/**
 * @param label what is being done, such as `loading`
 * @param plain the line to print when stderr is no terminal; default none. New labels are printed after it
 */
export function startProgress(label: string, plain?: string): Progress {
  const isPlain = !hasStatusLine() && plain !== undefined;
  if (isPlain) writeNote(plain);
  let running = true;
  let printed = { label, at: performance.now() };
  const left = new TimeLeft();
  const show = (what: string, share: number, time?: string) => {
    const size = terminalWidth(process.stderr) < 70 ? 12 : 30;
    showStatus([what, bar(share, size), `${Math.floor(100 * share)} %`, ...(time ? [time] : [])]);
  };
  show(label, 0);
  return {
    update(done, total, what = label) {
      if (!running || total <= 0) return;
      const time = left.after(done, total);
      show(what, Math.min(1, done / total), time);
      const now = performance.now();
      if (!isPlain || what === printed.label || now - printed.at < PLAIN_MS) return;
      writeNote(time === undefined ? what : `${what}, ${time}`);
      printed = { label: what, at: now };
    },
    stop() {
      if (running) clearStatus();
      running = false;
    },
  };
}

/** Estimates the time left of each part of the work from its speed so far. */
class TimeLeft {
  #first = { done: Number.POSITIVE_INFINITY, total: 0, at: 0 };

  /** @returns such as `4 min left`; undefined at the beginning and the end */
  after(done: number, total: number): string | undefined {
    const now = performance.now();
    if (total !== this.#first.total || done < this.#first.done) this.#first = { done, total, at: now };
    const elapsed = now - this.#first.at;
    if (elapsed < ESTIMATE_MS || done >= total || done === this.#first.done) return undefined;
    const each = elapsed / (done - this.#first.done);
    return `${duration((each * (total - done)) / 1000)} left`;
  }
}

/** Runs `work`, which reports its progress to the function it gets. @param label,plain of `startProgress` */
export async function withProgress<T>(
  label: string,
  plain: string | undefined,
  work: (update: Progress['update']) => Promise<T>,
): Promise<T> {
  const progress = startProgress(label, plain);
  try {
    return await work(progress.update);
  } finally {
    progress.stop();
  }
}
