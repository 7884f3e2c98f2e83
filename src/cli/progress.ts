/** Progress of long work: a bar on stderr if that is a terminal, else one plain line. */
import { writeNote } from './output.ts';
import { bar, clearStatus, hasStatusLine, showStatus } from './status-line.ts';

export interface Progress {
  /** @param done of `total`, in the same unit @param label a new label, from this call on */
  update(done: number, total: number, label?: string): void;
  /** Removes the bar. Safe to call twice. */
  stop(): void;
}

/**
 * @param label what is being done, such as `loading`
 * @param plain the line to print when stderr is no terminal; default none
 */
export function startProgress(label: string, plain?: string): Progress {
  if (!hasStatusLine() && plain !== undefined) writeNote(plain);
  let running = true;
  const show = (what: string, share: number) =>
    showStatus([what, bar(share, 30), `${Math.floor(100 * share)} %`]);
  show(label, 0);
  return {
    update(done, total, what = label) {
      if (running && total > 0) show(what, Math.min(1, done / total));
    },
    stop() {
      if (running) clearStatus();
      running = false;
    },
  };
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
