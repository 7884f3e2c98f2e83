/** What a training run shows: a bar or plain lines on stderr, `metrics.jsonl`, and `report.html`. */
import cliProgress from 'cli-progress';
import type { RunDirectory } from '../checkpoint/run-directory.ts';
import { generate } from '../models/generate.ts';
import type { TrainableModel } from '../models/trainable-model.ts';
import type { Tokenizer } from '../text/tokenizer.ts';
import type { Trainer } from '../train/trainer.ts';
import { binarySize, count, writeNote } from './output.ts';
import type { TrainFlags } from './train-flags.ts';
import { trainPage } from './train-page.ts';

/** A line of metrics.jsonl. */
export interface Metric {
  readonly step: number;
  readonly loss?: number;
  readonly learningRate?: number;
  readonly trainLoss?: number;
  readonly validationLoss?: number;
}

const SAMPLE_TOKENS = 200;
/** Seconds between plain lines where there is no terminal. */
const PLAIN_SECONDS = 10;

export class TrainReport {
  readonly #directory: RunDirectory;
  readonly #flags: TrainFlags;
  readonly #model: TrainableModel;
  readonly #tokenizer: Tokenizer;
  readonly #metrics: Metric[];
  readonly #bar: cliProgress.SingleBar | undefined;
  readonly #started = performance.now();
  #firstStep: number | undefined;
  #lastPlain = performance.now();
  #sample: string | undefined;

  constructor(
    directory: RunDirectory,
    flags: TrainFlags,
    model: TrainableModel,
    tokenizer: Tokenizer,
    metrics: readonly Metric[],
  ) {
    this.#directory = directory;
    this.#flags = flags;
    this.#model = model;
    this.#tokenizer = tokenizer;
    this.#metrics = [...metrics];
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

  /** After a step, whose batches had this loss. */
  async stepped(trainer: Trainer, loss: number): Promise<void> {
    this.#firstStep ??= trainer.step - 1;
    const { step } = trainer;
    const line = { step, loss, learningRate: trainer.schedule(step - 1) };
    this.#metrics.push(line);
    await this.#directory.appendLine('metrics.jsonl', line);
    const facts = this.#facts(trainer, loss);
    if (this.#bar) {
      if (!this.#bar.isActive) this.#bar.start(this.#flags.steps, step, facts);
      this.#bar.update(step, facts);
    } else if (performance.now() - this.#lastPlain > 1000 * PLAIN_SECONDS) {
      this.#lastPlain = performance.now();
      writeNote(
        `step ${step}/${this.#flags.steps}  loss ${facts.loss}  ${facts.rate} tokens/s  ${facts.left} left  ${facts.memory}`,
      );
    }
    // Ctrl-C is seen between steps.
    if (step % 8 === 0) await new Promise((resolve) => setImmediate(resolve));
  }

  /** Estimates both losses, writes them down, and renews the page. */
  async evaluated(trainer: Trainer): Promise<void> {
    const { step } = trainer;
    const line = {
      step,
      trainLoss: trainer.evaluate('train'),
      validationLoss: trainer.evaluate('validation'),
    };
    this.#metrics.push(line);
    await this.#directory.appendLine('metrics.jsonl', line);
    this.#note(
      `step ${step}: train ${line.trainLoss.toFixed(4)}, validation ${line.validationLoss.toFixed(4)}`,
    );
    await this.#writePage(trainer);
  }

  /** A sample at the end, and the last page. */
  async finish(trainer: Trainer, finished: boolean): Promise<void> {
    this.stop();
    if (finished) {
      this.#sample = await this.#makeSample();
      if (!this.#flags.json && this.#sample) writeNote(`sample: ${JSON.stringify(this.#sample)}`);
    }
    await this.#writePage(trainer);
    const minutes = (performance.now() - this.#started) / 60000;
    writeNote(
      `${finished ? 'done' : 'stopped'} at step ${trainer.step} after ${minutes.toFixed(1)} min; checkpoint ` +
        `${this.#directory.path}/step-${trainer.step}, curves ${this.#directory.path}/report.html`,
    );
  }

  result(trainer: Trainer, finished: boolean): object {
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
      ...{ parameters: this.#model.parameterCount, tokensPerSecond: this.#rate(trainer) },
      checkpoint: `${this.#directory.path}/step-${trainer.step}`,
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

  #rate(trainer: Trainer): number {
    const steps = trainer.step - (this.#firstStep ?? trainer.step);
    return (steps * trainer.tokensPerStep) / ((performance.now() - this.#started) / 1000);
  }

  #facts(trainer: Trainer, loss: number): Record<'loss' | 'rate' | 'left' | 'memory', string> {
    const rate = this.#rate(trainer);
    const seconds = ((this.#flags.steps - trainer.step) * trainer.tokensPerStep) / rate;
    return {
      loss: loss.toFixed(4),
      rate: count(Math.round(rate)),
      left: seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`,
      memory: binarySize(process.memoryUsage.rss()),
    };
  }

  async #makeSample(): Promise<string | undefined> {
    const { maxPositionEmbeddings } = this.#model.config;
    const tokens: number[] = [];
    const start = this.#tokenizer.encode('\n', { addSpecialTokens: false });
    if (start.length === 0) return undefined;
    const room = Math.min(SAMPLE_TOKENS, maxPositionEmbeddings - start.length);
    const options = { maxNewTokens: room, temperature: 0.8, topK: 200, seed: this.#flags.seed };
    for await (const token of generate(this.#model, start, options)) tokens.push(token);
    return this.#tokenizer.decode(tokens);
  }

  async #writePage(trainer: Trainer): Promise<void> {
    const { config } = this.#model;
    const series = (key: 'loss' | 'trainLoss' | 'validationLoss' | 'learningRate') =>
      thinned(
        this.#metrics.flatMap((metric) => {
          const value = metric[key];
          return value === undefined ? [] : [{ step: metric.step, value }];
        }),
      );
    const last = this.#metrics.findLast((metric) => metric.validationLoss !== undefined);
    const page = trainPage(
      `gqa train: ${this.#flags.data}, N=${config.numHeads} K=${config.numKeyValueHeads}`,
      [
        ['parameters', count(this.#model.parameterCount)],
        [
          'layers, D, N, K, H',
          `${config.numLayers}, ${config.hiddenSize}, ${config.numHeads}, ${config.numKeyValueHeads}, ${config.headDim}`,
        ],
        ['step', `${count(trainer.step)} of ${count(this.#flags.steps)}`],
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
    await this.#directory.write('report.html', page);
  }
}

/** At most a thousand points of a curve. */
function thinned<T>(points: readonly T[]): readonly T[] {
  const every = Math.ceil(points.length / 1000);
  return points.filter((_, i) => i % every === 0 || i === points.length - 1);
}
