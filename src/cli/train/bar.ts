/**
 * Training progress: a bar on stderr if that is a terminal, else a plain line every few seconds.
 */
import { binarySize, count, duration, writeNote } from '../output.ts';
import { bar, clearStatus, hasStatusLine, showStatus } from '../status-line.ts';

const PLAIN_SECONDS = 10;

export interface TrainingBarOptions {
  /** Steps of the whole run. */
  readonly steps: number;
  readonly tokensPerStep: number;
  /** Steps taken before; default 0. */
  readonly firstStep?: number;
  /** Text before the bar or line; default none. */
  readonly label?: string;
}

export class TrainingBar {
  readonly #options: Required<TrainingBarOptions>;
  readonly #started = performance.now();
  #lastPlain = performance.now();
  #step: number;

  constructor(options: TrainingBarOptions) {
    this.#options = { firstStep: 0, label: '', ...options };
    this.#step = this.#options.firstStep;
  }

  /** Tokens per second since this run started. */
  get rate(): number {
    const tokens = (this.#step - this.#options.firstStep) * this.#options.tokensPerStep;
    return tokens / ((performance.now() - this.#started) / 1000);
  }

  /** Called after each step with the loss of its batches. */
  stepped(step: number, loss: number): void {
    this.#step = step;
    const { steps, tokensPerStep, label } = this.#options;
    const facts = [
      `loss ${loss.toFixed(4)}`,
      `${count(Math.round(this.rate))} tokens/s`,
      `${duration(((steps - step) * tokensPerStep) / this.rate)} left`,
      binarySize(process.memoryUsage.rss()),
    ];
    if (hasStatusLine()) {
      showStatus([`${label}${bar(step / steps, 16)} ${step}/${steps}`, ...facts]);
    } else if (performance.now() - this.#lastPlain > 1000 * PLAIN_SECONDS) {
      this.#lastPlain = performance.now();
      writeNote(`${label}step ${step}/${steps}  ${facts.join('  ')}`);
    }
  }

  /** Removes the bar. Safe to call twice. */
  stop(): void {
    clearStatus();
  }
}
