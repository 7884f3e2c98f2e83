/** Losses on a held-out text, and uptraining of the converted model. */
import { softmaxCrossEntropy, sum, tensor } from 'gqa';
import { generateText, loadModel, type Model } from 'gqa/models';
import { loadTrainableModel, splitTokens, type TokenSplit, Trainer } from 'gqa/train';
import { binaryBytes } from '../format.ts';
import { eventLoopTurn } from './event-loop.ts';
import { beforeChange, modelOf, theConverted, theOpened, theTokenizer, type Which } from './models.ts';

/** Share of a text, at its end, that no model is trained on. */
const HELD_OUT = 0.1;

/** The text that losses are measured and models are trained on. */
let text = '';
/** Of the opened model's tokenizer. */
let tokens: { of: Model; split: Int32Array } | undefined;

export function setText(given: string): void {
  text = given;
  tokens = undefined;
}

/** Like `setText`; keeps the text before where the opened model cannot use the new one. */
export function replaceText(given: string): void {
  const before = { text, tokens };
  setText(given);
  try {
    checkLength(textTokens());
  } catch (error) {
    ({ text, tokens } = before);
    throw error;
  }
}

/** @throws RangeError for a text whose held-out part has no block */
function checkLength({ length: got }: Int32Array): void {
  const least = evaluationBlocks().length / HELD_OUT;
  if (got <= least) throw new RangeError(`expected a text of more than ${least} tokens, got ${got}`);
}

export function theText(): string {
  return text;
}

/** @throws RangeError for characters that the tokenizer lacks */
function textTokens(): Int32Array {
  const { model } = theOpened();
  if (tokens?.of !== model) {
    const ids = theTokenizer().encode(text, { addSpecialTokens: false });
    tokens = { of: model, split: Int32Array.from(ids) };
  }
  return tokens.split;
}

/** Blocks of the held-out part that a loss is measured on, and their length. */
function evaluationBlocks(): { count: number; length: number } {
  const { facts } = theOpened();
  return facts.isSmall ? { count: 8, length: Math.min(512, facts.context) } : { count: 2, length: 128 };
}

/** Mean cross-entropy per token of the held-out text, in nats. It ends within a pass of an abort. */
export async function lossOf(which: Which, signal: AbortSignal): Promise<number> {
  const { passTokens } = theOpened();
  const { count, length } = evaluationBlocks();
  const all = textTokens();
  checkLength(all);
  const start = Math.floor(all.length * (1 - HELD_OUT));
  const model = modelOf(which);
  let [total, predicted] = [0, 0];
  for (let block = 0; block < count; block++) {
    const own = all.subarray(start + block * length, start + (block + 1) * length + 1);
    if (own.length < length + 1) break;
    const cache = model.initCache({ batchSize: 1, maxLength: length });
    try {
      for (let at = 0; at < length; at += passTokens) {
        await eventLoopTurn();
        signal.throwIfAborted();
        const end = Math.min(length, at + passTokens);
        const logits = model.forward([[...own.subarray(at, end)]], { cache });
        const labels = tensor(own.slice(at + 1, end + 1), { shape: [1, end - at], dtype: 'i32' });
        const losses = softmaxCrossEntropy(logits, labels);
        const whole = sum(losses);
        total += whole.dataSync()[0];
        predicted += end - at;
        for (const one of [logits, labels, losses, whole]) one.dispose();
      }
    } finally {
      cache.dispose();
    }
  }
  return total / predicted;
}

/** What the page asks for. */
export interface UptrainChoice {
  readonly steps: number;
  /** Of AdamW, at its peak. */
  readonly learningRate: number;
  /** Tokens of a block. */
  readonly blockLength: number;
  readonly blocksPerStep: number;
  /** The prompt of the samples. */
  readonly prompt: string;
}

/** After each step. */
export interface TrainStep {
  readonly step: number;
  /** Of the step's batch, in nats. */
  readonly loss: number;
  /** Of the held-out text, where it was measured after this step. */
  readonly heldOutLoss?: number;
  /** A continuation of the prompt, likewise. */
  readonly sample?: string;
  /** Seconds of training so far. */
  readonly seconds: number;
}

/** Measurements of the held-out loss during a run. */
const MEASUREMENTS = 8;

let run: { trainer: Trainer; seconds: number } | undefined;
beforeChange(() => {
  run = undefined; // its model is the converted one, which is disposed of there
});

/** Trains the converted model, or goes on; the run is complete after `steps`. Leaving the loop is a pause. */
export async function* uptrain(
  choice: UptrainChoice,
  signal: AbortSignal,
): AsyncGenerator<TrainStep, void, undefined> {
  run ??= { trainer: await startRun(choice, signal), seconds: 0 };
  const { trainer } = run;
  const every = Math.ceil(choice.steps / MEASUREMENTS);
  while (trainer.step < trainer.settings.steps) {
    signal.throwIfAborted();
    const begin = performance.now();
    const loss = await trainer.advanceAsync({ signal });
    run.seconds += (performance.now() - begin) / 1000;
    const { step } = trainer;
    const isMeasured = step % every === 0 || step === trainer.settings.steps;
    yield { step, loss, seconds: run.seconds, ...(isMeasured && (await measure(choice.prompt, signal))) };
  }
}

/** Nothing when stopped, since the step before it is to be reported. */
async function measure(
  prompt: string,
  signal: AbortSignal,
): Promise<Pick<TrainStep, 'heldOutLoss' | 'sample'> | undefined> {
  try {
    return { heldOutLoss: await lossOf('converted', signal), sample: await sampleOf(prompt, signal) };
  } catch (error) {
    if (signal.aborted) return undefined;
    throw error;
  }
}

async function startRun(
  { steps, learningRate, blockLength, blocksPerStep }: UptrainChoice,
  signal: AbortSignal,
): Promise<Trainer> {
  const { facts } = theOpened();
  const { training, limit, canTrain } = facts.room;
  if (!canTrain) {
    throw new RangeError(
      `training: expected at most ${binaryBytes(limit)}, which a tab can hold, got ${binaryBytes(training)} for weights, gradients and moments of ${facts.name}. On the command line: npx gqa uptrain`,
    );
  }
  const own = facts.recipe?.training;
  const data: TokenSplit = splitTokens(textTokens(), blockLength, HELD_OUT);
  const model = await loadTrainableModel(theConverted().source, { signal });
  const converted = theConverted();
  converted.model.dispose();
  converted.model = model;
  return new Trainer(model, data, {
    ...{ steps, learningRate, minLearningRate: learningRate / 10 },
    // One block after another, so that Stop waits for no more than one.
    ...{ blockLength, batchSize: 1, accumulate: blocksPerStep },
    ...(own && { b1: own.settings.b1, b2: own.settings.b2, weightDecay: own.settings.weightDecay }),
  });
}

async function sampleOf(prompt: string, signal: AbortSignal): Promise<string> {
  let sample = '';
  const options = {
    maxNewTokens: theOpened().facts.isSmall ? 80 : 16,
    temperature: 0.6,
    topK: 20,
    seed: 7,
    signal,
  };
  for await (const piece of generateText(theConverted().model, prompt, options)) sample += piece;
  return sample;
}

/** Back to the converted model as it was before training. */
export async function resetRun(): Promise<void> {
  if (run === undefined) return;
  run = undefined;
  const converted = theConverted();
  converted.model.dispose();
  converted.model = await loadModel(converted.source);
}

/** Whether the converted model's weights have been trained. */
export function isTrained(): boolean {
  return (run?.trainer.step ?? 0) > 0;
}
