/** What a training run shows: a bar or plain lines on stderr, and `report.html`. */
import cliProgress from 'cli-progress';
import { generate } from '../models/generate.ts';
import type { Metric, PreparedRun } from '../train/training-run.ts';
import { binarySize, count, writeNote } from './output.ts';
import type { RunFlags } from './train-flags.ts';
import { trainPage } from './train-page.ts';

const SAMPLE_TOKENS = 200;
/** Seconds between plain lines where there is no terminal. */
const PLAIN_SECONDS = 10;

export class TrainReport {
  readonly #title: string;
  readonly #run: PreparedRun;
  readonly #flags: RunFlags;
  readonly #metrics: Metric[];
  readonly #bar: cliProgress.SingleBar | undefined;
  readonly #started = performance.now();
  readonly #firstStep: number;
  #lastPlain = performance.now();
  #sample: string | undefined;

  /** @param title of the page */
  constructor(title: string, run: PreparedRun, flags: RunFlags) {
    this.#title = title;
    this.#run = run;
    this.#flags = flags;
    this.#metrics = [...run.metrics];
    this.#firstStep = run.trainer.step;
    if (process.stderr.isTTY === true) {
      this.#bar = new cliProgress.SingleBar({
        stream: process.stderr,
        format: '{bar} {value}/{total}  loss {loss}  {rate} tokens/s  {left} left  {memory}',
        barCompleteChar: '█',
        barIncompleteChar: '░',
        barsize: 24,
        clearOnComplete: true,
        gracefulExit: false,
        hideCursor: false,
      });
    }
  }

  /** Shows a line of metrics. */
  async heard(metric: Metric): Promise<void> {
    this.#metrics.push(metric);
    const { step, loss, trainLoss, validationLoss } = metric;
    if (loss !== undefined) this.#stepped(step, loss);
    if (trainLoss === undefined || validationLoss === undefined) return;
    this.#note(`step ${step}: train ${trainLoss.toFixed(4)}, validation ${validationLoss.toFixed(4)}`);
    await this.#writePage();
  }

  #stepped(step: number, loss: number): void {
    const { steps } = this.#run.settings;
    const facts = this.#facts(loss);
    if (this.#bar) {
      if (!this.#bar.isActive) this.#bar.start(steps, step, facts);
      this.#bar.update(step, facts);
    } else if (performance.now() - this.#lastPlain > 1000 * PLAIN_SECONDS) {
      this.#lastPlain = performance.now();
      writeNote(
        `step ${step}/${steps}  loss ${facts.loss}  ${facts.rate} tokens/s  ${facts.left} left  ${facts.memory}`,
      );
    }
  }

  /** A sample at the end, and the last page. */
  async finish(finished: boolean): Promise<void> {
    this.stop();
    if (finished) {
      this.#sample = await this.#makeSample();
      if (!this.#flags.json && this.#sample) writeNote(`sample: ${JSON.stringify(this.#sample)}`);
    }
    await this.#writePage();
    const minutes = (performance.now() - this.#started) / 60000;
    writeNote(
      `${finished ? 'done' : 'stopped'} at step ${this.#run.trainer.step} after ${minutes.toFixed(1)} min; checkpoint ` +
        `${this.#checkpoint}, curves ${this.#flags.out}/report.html`,
    );
  }

  result(finished: boolean): object {
    const { trainer } = this.#run;
    const last = this.#metrics.findLast((metric) => metric.validationLoss !== undefined);
    const loss = this.#metrics.findLast((metric) => metric.loss !== undefined)?.loss;
    return {
      ...{
        finished,
        step: trainer.step,
        loss,
        trainLoss: last?.trainLoss,
        validationLoss: last?.validationLoss,
      },
      ...{ parameters: trainer.model.parameterCount, tokensPerSecond: this.#rate },
      checkpoint: this.#checkpoint,
    };
  }

  /** Takes the bar away. */
  stop(): void {
    if (this.#bar?.isActive) this.#bar.stop();
  }

  #note(text: string): void {
    const bar = this.#bar?.isActive ? this.#bar : undefined;
    if (bar) process.stderr.write('\r\u001b[K');
    writeNote(text);
    bar?.render();
  }

  get #checkpoint(): string {
    return `${this.#flags.out}/step-${this.#run.trainer.step}`;
  }

  get #rate(): number {
    const { trainer } = this.#run;
    const tokens = (trainer.step - this.#firstStep) * trainer.tokensPerStep;
    return tokens / ((performance.now() - this.#started) / 1000);
  }

  #facts(loss: number): Record<'loss' | 'rate' | 'left' | 'memory', string> {
    const { trainer, settings } = this.#run;
    const seconds = ((settings.steps - trainer.step) * trainer.tokensPerStep) / this.#rate;
    return {
      loss: loss.toFixed(4),
      rate: count(Math.round(this.#rate)),
      left: seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`,
      memory: binarySize(process.memoryUsage.rss()),
    };
  }

  async #makeSample(): Promise<string | undefined> {
    const { trainer, tokenizer, settings } = this.#run;
    const { maxPositionEmbeddings } = trainer.model.config;
    const tokens: number[] = [];
    const start = tokenizer.encode('\n', { addSpecialTokens: false });
    if (start.length === 0) return undefined;
    const room = Math.min(SAMPLE_TOKENS, maxPositionEmbeddings - start.length);
    const options = { maxNewTokens: room, temperature: 0.8, topK: 200, seed: settings.seed };
    for await (const token of generate(trainer.model, start, options)) tokens.push(token);
    return tokenizer.decode(tokens);
  }

  async #writePage(): Promise<void> {
    const { trainer, settings, place } = this.#run;
    const { config, parameterCount } = trainer.model;
    const series = (key: 'loss' | 'trainLoss' | 'validationLoss' | 'learningRate') =>
      thinned(
        this.#metrics.flatMap((metric) => {
          const value = metric[key];
          return value === undefined ? [] : [{ step: metric.step, value }];
        }),
      );
    const last = this.#metrics.findLast((metric) => metric.validationLoss !== undefined);
    const page = trainPage(
      `${this.#title}, N=${config.numHeads} K=${config.numKeyValueHeads}`,
      [
        ['parameters', count(parameterCount)],
        [
          'layers, D, N, K, H',
          `${config.numLayers}, ${config.hiddenSize}, ${config.numHeads}, ${config.numKeyValueHeads}, ${config.headDim}`,
        ],
        ['step', `${count(trainer.step)} of ${count(settings.steps)}`],
        ['validation loss', last?.validationLoss?.toFixed(4) ?? 'not yet'],
      ],
      [
        {
          title: 'Loss (nats per token)',
          curves: [
            { name: 'batch', color: '#b8c4d6', points: series('loss') },
            { name: 'train', color: '#2563a8', points: series('trainLoss') },
            { name: 'validation', color: '#c2410c', points: series('validationLoss') },
          ],
        },
        {
          title: 'Learning rate',
          curves: [{ name: 'learning rate', color: '#4d7c0f', points: series('learningRate') }],
        },
      ],
      this.#sample,
    );
    await place?.directory.write('report.html', page);
  }
}

/** At most a thousand points of a curve. */
function thinned<T>(points: readonly T[]): readonly T[] {
  const every = Math.ceil(points.length / 1000);
  return points.filter((_, i) => i % every === 0 || i === points.length - 1);
}
