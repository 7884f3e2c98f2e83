/** The display of a training run: a bar or plain lines on stderr, and `report.html`. */
import { getBackend } from '../../backend/index.ts';
import { generate } from '../../models/generation/generate.ts';
import { COLORS } from '../../page/html-page.ts';
import { documentStart } from '../../text/documents.ts';
import type { Tokenizer } from '../../text/tokenizer.ts';
import type { PreparedRun } from '../../train/prepare-run.ts';
import type { Metric } from '../../train/training-run.ts';
import { count, duration, writeNote } from '../output.ts';
import { trainPage } from '../pages/train.ts';
import { TrainingBar } from './bar.ts';
import type { RunFlags } from './flags.ts';

const SAMPLE_TOKENS = 200;
/** Tokens of the sample after Ctrl-C: fewer, since the user waits. */
const STOPPED_SAMPLE_TOKENS = 50;

export class TrainReport {
  readonly #title: string;
  readonly #run: PreparedRun;
  readonly #flags: RunFlags;
  readonly #metrics: Metric[];
  readonly #bar: TrainingBar;
  readonly #started = performance.now();
  #sample: string | undefined;

  /** @param title of the page */
  constructor(title: string, run: PreparedRun, flags: RunFlags) {
    this.#title = title;
    this.#run = run;
    this.#flags = flags;
    this.#metrics = [...run.metrics];
    const { steps } = run.settings;
    const { tokensPerStep, step: firstStep } = run.trainer;
    this.#bar = new TrainingBar({ steps, tokensPerStep, firstStep });
  }

  /** Shows a metric. */
  async onMetric(metric: Metric): Promise<void> {
    this.#metrics.push(metric);
    const { step, loss, trainLoss, validationLoss } = metric;
    if (loss !== undefined) this.#bar.stepped(step, loss);
    if (trainLoss === undefined || validationLoss === undefined) return;
    writeNote(`step ${step}: train ${trainLoss.toFixed(4)}, validation ${validationLoss.toFixed(4)}`);
    await this.#writePage();
  }

  /** Generates a sample of text and writes the final page. */
  async finish(finished: boolean): Promise<void> {
    this.stop();
    this.#sample = await this.#makeSample(finished ? SAMPLE_TOKENS : STOPPED_SAMPLE_TOKENS);
    if (!this.#flags.json && this.#sample) writeNote(`sample: ${JSON.stringify(this.#sample)}`);
    await this.#writePage();
    const time = duration((performance.now() - this.#started) / 1000);
    const checkpoint = this.#checkpoint;
    writeNote(
      `${finished ? 'done' : 'stopped'} at step ${this.#run.trainer.step} after ${time}; ` +
        `${checkpoint === undefined ? 'no checkpoint yet' : `checkpoint ${checkpoint}`}, curves ${this.#flags.out}/report.html`,
    );
  }

  result(finished: boolean): object {
    const { step, model } = this.#run.trainer;
    const { trainLoss, validationLoss } = this.#last('validationLoss') ?? {};
    const loss = this.#last('loss')?.loss;
    const losses = { loss, trainLoss, validationLoss };
    const { parameterCount: parameters } = model;
    const [tokensPerSecond, checkpoint] = [this.#bar.rate, this.#checkpoint];
    return { finished, step, ...losses, parameters, tokensPerSecond, checkpoint };
  }

  /** The newest metric that has the value. */
  #last(name: keyof Metric): Metric | undefined {
    return this.#metrics.findLast((metric) => metric[name] !== undefined);
  }

  /** Removes the bar. */
  stop(): void {
    this.#bar.stop();
  }

  get #checkpoint(): string | undefined {
    const { step } = this.#run.trainer;
    return step === 0 ? undefined : `${this.#flags.out}/step-${step}`;
  }

  async #makeSample(length: number): Promise<string | undefined> {
    const { trainer, tokenizer, settings } = this.#run;
    const { maxPositionEmbeddings } = trainer.model.config;
    const tokens: number[] = [];
    const start = [...documentStart(tokenizer), ...lineEnd(tokenizer)];
    if (start.length === 0) return undefined;
    const room = Math.min(length, maxPositionEmbeddings - start.length);
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
    const time = duration((performance.now() - this.#started) / 1000);
    const page = trainPage(
      `${this.#title}, N=${config.numHeads} K=${config.numKeyValueHeads}`,
      [
        ['parameters', count(parameterCount)],
        [
          'layers, D, N, K, H',
          `${config.numLayers}, ${config.hiddenSize}, ${config.numHeads}, ${config.numKeyValueHeads}, ${config.headDim}`,
        ],
        ['step', `${count(trainer.step)} of ${count(settings.steps)}`],
        ['validation loss', this.#last('validationLoss')?.validationLoss?.toFixed(4) ?? 'not yet'],
        ['speed', this.#bar.rate > 0 ? `${count(Math.round(this.#bar.rate))} tokens/s` : 'not yet'],
        ['time', `${time} on ${getBackend().description}`],
        ['command', commandLine()],
      ],
      [
        {
          title: 'Loss (nats per token)',
          curves: [
            { name: 'batch', color: COLORS.gray, points: series('loss') },
            { name: 'train', color: COLORS.blue, points: series('trainLoss') },
            { name: 'validation', color: COLORS.orange, points: series('validationLoss') },
          ],
        },
        {
          title: 'Learning rate',
          curves: [{ name: 'learning rate', color: COLORS.green, points: series('learningRate') }],
        },
      ],
      this.#sample,
    );
    await place?.directory.folder.write('report.html', page);
  }
}

/** The command as it was typed, with arguments quoted where a shell needs it. */
function commandLine(): string {
  const words = process.argv.slice(2);
  return `npx gqa ${words.map((word) => (/^[\w./:=,@+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(' ')}`;
}

/** The newline token; none if a character tokenizer was made from a text without one. */
function lineEnd(tokenizer: Tokenizer): number[] {
  try {
    return tokenizer.encode('\n', { addSpecialTokens: false });
  } catch {
    return [];
  }
}

/** At most a thousand points of a curve. */
function thinned<T>(points: readonly T[]): readonly T[] {
  const every = Math.ceil(points.length / 1000);
  return points.filter((_, i) => i % every === 0 || i === points.length - 1);
}
