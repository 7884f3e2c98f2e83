/**
 * How far long work has come: a bar on stderr where that is a terminal, one plain line elsewhere.
 */
import cliProgress from 'cli-progress';
import { writeNote } from './output.ts';

export interface Progress {
  /** @param done of `total`, in the unit of both */
  update(done: number, total: number): void;
  /** Takes the bar away, so that other text can be written. Safe to call twice. */
  stop(): void;
}

/**
 * @param label what is being done, such as `loading`
 * @param plain the line for where there is no terminal; none when it is left out
 */
export function startProgress(label: string, plain?: string): Progress {
  if (process.stderr.isTTY !== true) {
    if (plain !== undefined) writeNote(plain);
    return { update() {}, stop() {} };
  }
  const bar = new cliProgress.SingleBar({
    stream: process.stderr,
    format: (options, { progress }) => {
      const filled = cliProgress.Format.BarFormat(progress, options);
      return `${label} ${filled} ${Math.floor(progress * 100)} %`;
    },
    barCompleteChar: '█',
    barIncompleteChar: '░',
    barsize: 30,
    clearOnComplete: true,
    // Ours is the only handler of Ctrl-C, and a cursor hidden by it would stay hidden.
    gracefulExit: false,
    hideCursor: false,
    // Lines are cut to the terminal's width; a wrapping switched off would stay off after Ctrl-C.
    linewrap: true,
  });
  bar.start(1, 0);
  let running = true;
  return {
    update(done, total) {
      if (running && total > 0) bar.update(Math.min(1, done / total));
    },
    stop() {
      if (running) bar.stop();
      running = false;
    },
  };
}
