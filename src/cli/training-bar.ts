/** How far training is: a bar on stderr where that is a terminal, a plain line every few seconds elsewhere. */
import cliProgress from 'cli-progress';
import { binarySize, count, writeNote } from './output.ts';

const PLAIN_SECONDS = 10;

export interface TrainingBarOptions {
  /** Steps of the whole run. */
  readonly steps: number;
  readonly tokensPerStep: number;
  /** Steps taken before; default 0. */
  readonly firstStep?: number;
  /** Before the bar or line; default nothing. */
  readonly label?: string;
}

export class TrainingBar {
  readonly #options: Required<TrainingBarOptions>;
  readonly #bar: cliProgress.SingleBar | undefined;
  readonly #started = performance.now();
  #lastPlain = performance.now();
  #step: number;

  constructor(options: TrainingBarOptions) {
    this.#options = { firstStep: 0, label: '', ...options };
    this.#step = this.#options.firstStep;
    if (process.stderr.isTTY !== true) return;
    this.#bar = new cliProgress.SingleBar({
      stream: process.stderr,
      format: `${this.#options.label}{bar} {value}/{total}  loss {loss}  {rate} tokens/s  {left} left  {memory}`,
      barCompleteChar: '█',
      barIncompleteChar: '░',
      barsize: 24,
      clearOnComplete: true,
      gracefulExit: false,
      hideCursor: false,
      // As in progress.ts: wrapping stays as it is, so that nothing is left behind by Ctrl-C.
      linewrap: true,
    });
  }

  /** Tokens per second since the beginning of this run. */
  get rate(): number {
    const tokens = (this.#step - this.#options.firstStep) * this.#options.tokensPerStep;
    return tokens / ((performance.now() - this.#started) / 1000);
  }

  /** After a step, whose batches had this loss. */
  stepped(step: number, loss: number): void {
    this.#step = step;
    const { steps, tokensPerStep, label } = this.#options;
    const seconds = ((steps - step) * tokensPerStep) / this.rate;
    const facts = {
      loss: loss.toFixed(4),
      rate: count(Math.round(this.rate)),
      left: seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`,
      memory: binarySize(process.memoryUsage.rss()),
    };
    if (this.#bar) {
      if (!this.#bar.isActive) this.#bar.start(steps, step, facts);
      this.#bar.update(step, facts);
    } else if (performance.now() - this.#lastPlain > 1000 * PLAIN_SECONDS) {
      this.#lastPlain = performance.now();
      writeNote(
        `${label}step ${step}/${steps}  loss ${facts.loss}  ${facts.rate} tokens/s  ${facts.left} left  ${facts.memory}`,
      );
    }
  }

  /** Writes a line above the bar. */
  note(text: string): void {
    const bar = this.#bar?.isActive ? this.#bar : undefined;
    if (bar) process.stderr.write('\r\u001b[K');
    writeNote(text);
    bar?.render();
  }

  /** Takes the bar away. Safe to call twice. */
  stop(): void {
    if (this.#bar?.isActive) this.#bar.stop();
  }
}
