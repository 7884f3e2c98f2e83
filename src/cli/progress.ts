/**
 * How far long work has come: a bar on stderr where that is a terminal, one plain line elsewhere.
 */
import { writeNote } from './output.ts';
import { bar, clearStatus, hasStatusLine, showStatus } from './status-line.ts';

export interface Progress {
  /** @param done of `total`, in the unit of both @param label when it is another one from now on */
  update(done: number, total: number, label?: string): void;
  /** Takes the bar away. Safe to call twice. */
  stop(): void;
}

/**
 * @param label what is being done, such as `loading`
 * @param plain the line for where there is no terminal; none when it is left out
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
