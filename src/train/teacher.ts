/**
 * A teacher for uptraining: its predictions for all batches of a run are computed before the first step and
 * kept in files, so that the teacher and the model it teaches are not in memory at once.
 */
import { checkInteger } from '../arguments/kinds.ts';
import { readyBackend } from '../backend/registry.ts';
import { openCheckpoint } from '../checkpoint/open-checkpoint.ts';
import { type Folder, readSmallFile, readSmallJson } from '../files/folder.ts';
import { MemoryFolder } from '../files/memory-folder.ts';
import type { ModelCache } from '../files/model-cache.ts';
import { type ModelSource, sourceName } from '../files/source.ts';
import { describeModel } from '../models/describe-model.ts';
import { loadModel } from '../models/load-model.ts';
import type { Model } from '../models/model.ts';
import { eventLoopTurn } from '../tensor/event-loop.ts';
import { inputsOf } from './causal-lm-loss.ts';
import { distillationLoss } from './distillation-loss.ts';
import type { RunStart } from './prepare-run.ts';
import { differentSetting, RunConflictError, type RunIdentity } from './run-identity.ts';
import { type TopK, topKOf } from './top-k-tokens.ts';
import { type BatchLoss, trainingBatch } from './trainer.ts';

/** Options of a run with a teacher. */
export interface TeacherChoice {
  /**
   * A checkpoint whose predictions the model learns, such as the one it was converted from: with the same
   * vocabulary. Default none.
   */
  readonly teacher?: ModelSource;
  /**
   * Tokens of each of the teacher's predictions that are kept, those with the largest logits; the others
   * count as one. Default 64, at most V - 1.
   */
  readonly teacherTopK?: number;
  /**
   * The loss is `kdRatio` times KL(teacher || model) plus `1 - kdRatio` times the cross-entropy of the text,
   * as in torchtune. Above 0, at most 1; default 0.5.
   */
  readonly kdRatio?: number;
}

/** The choice with its defaults. */
export interface TeacherSettings {
  readonly teacher: ModelSource;
  readonly teacherTopK: number;
  readonly kdRatio: number;
}

/**
 * @param vocabSize of the model
 * @returns undefined without a teacher
 * @throws RangeError for numbers out of range, or given without a teacher
 */
export function teacherSettings(choice: TeacherChoice, vocabSize: number): TeacherSettings | undefined {
  const { teacher, teacherTopK = Math.min(64, vocabSize - 1), kdRatio = 0.5 } = choice;
  if (teacher === undefined) {
    const given = (['teacherTopK', 'kdRatio'] as const).find((name) => choice[name] !== undefined);
    if (given === undefined) return undefined;
    throw new RangeError(`uptrain: expected a teacher with ${given}, got ${given}=${choice[given]} alone`);
  }
  checkInteger('uptrain', 'teacherTopK', teacherTopK, 1);
  if (teacherTopK >= vocabSize) {
    throw new RangeError(`uptrain: expected teacherTopK below V=${vocabSize}, got ${teacherTopK}`);
  }
  if (!(kdRatio > 0 && kdRatio <= 1)) {
    throw new RangeError(`uptrain: expected 0 < kdRatio <= 1, got ${kdRatio}`);
  }
  return { teacher, teacherTopK, kdRatio };
}

/** What predictions depend on, by its name in a run's identity. */
const BATCHES = [
  ...['teacher', 'teacherTopK', 'vocabSize', 'tokens', 'tokensHash', 'blockStart', 'validation'],
  ...['batchSize', 'blockLength', 'seed', 'firstBatch', 'matmulPrecision'],
];

/** What `teacherLoss` needs to know of a run. */
export interface TeacherOptions extends TeacherSettings, RunStart {
  /** For a model on Hugging Face. */
  readonly token?: string;
  readonly cache?: ModelCache;
  /** V of the model. */
  readonly vocabSize: number;
  /** Folder of the run; without one the predictions are in memory. */
  readonly folder: Folder | undefined;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * Computes the predictions that are not in the folder yet.
 * @throws RangeError when the vocabularies differ, Error when the disk has no room, RunConflictError for
 * predictions of another run, the signal's reason when it is aborted; what is done stays in the folder
 */
export async function teacherLoss(options: TeacherOptions): Promise<BatchLoss> {
  const { folder = new MemoryFolder(), kdRatio } = options;
  await folder.create();
  const unlock = await folder.lock();
  try {
    const files = new PredictionFiles(folder, options);
    await files.claim(options.identity);
    await computeMissing(files, options);
    return new TeacherLoss(files, kdRatio);
  } finally {
    unlock();
  }
}

class TeacherLoss implements BatchLoss {
  readonly #files: PredictionFiles;
  readonly #kdRatio: number;
  readonly #prepared = new Map<number, TopK>();

  constructor(files: PredictionFiles, kdRatio: number) {
    this.#files = files;
    this.#kdRatio = kdRatio;
  }

  async prepare(index: number): Promise<void> {
    this.#prepared.set(index, await this.#files.read(index));
  }

  of(...[model, batch, dropout, index]: Parameters<BatchLoss['of']>) {
    const teacher = this.#prepared.get(index);
    if (teacher === undefined) throw new Error(`expected prepare(${index}) before the loss of that batch`);
    this.#prepared.delete(index);
    return distillationLoss(model, batch, teacher, this.#kdRatio, dropout);
  }

  async finish(): Promise<void> {
    await this.#files.remove();
  }
}

const FOLDER = 'teacher';
const IDENTITY = 'batches.json';

/** Files of predictions, one for each batch: ids, then log-probabilities, as 32-bit numbers. */
class PredictionFiles {
  readonly #parent: Folder;
  readonly #folder: Folder;
  readonly #count: number;
  readonly #k: number;

  constructor(parent: Folder, { settings, teacherTopK }: TeacherOptions) {
    this.#parent = parent;
    this.#folder = parent.folder(FOLDER);
    this.#count = settings.batchSize * settings.blockLength;
    this.#k = teacherTopK;
  }

  /** Bytes of a file. */
  get #bytes(): number {
    return 4 * this.#count * (2 * this.#k + 1);
  }

  /** Notes which batches the files are for. @throws RunConflictError when they are for others */
  async claim(identity: RunIdentity): Promise<void> {
    const own = Object.fromEntries(BATCHES.map((name) => [name, identity[name]]));
    const before = (await readSmallJson(this.#folder, IDENTITY)) as RunIdentity | undefined;
    const key = before && differentSetting(before, own);
    if (key !== undefined) {
      throw new RunConflictError(
        `${this.#folder.name}: expected predictions for a run whose ${key} is ${own[key]}, got ${before?.[key]}; another { out } starts a new run`,
      );
    }
    if (before !== undefined) return;
    await this.#folder.create();
    await this.#folder.write(IDENTITY, `${JSON.stringify(own, null, 2)}\n`);
  }

  /** Which of the batches have no file. @throws Error when the disk has no room for them */
  async missing(first: number, end: number): Promise<number[]> {
    const names = new Set((await this.#folder.list()).map(({ name }) => name));
    const missing: number[] = [];
    for (let index = first; index < end; index++) if (!names.has(nameOf(index))) missing.push(index);
    const [needed, free] = [missing.length * this.#bytes, await this.#folder.space(IDENTITY)];
    if (needed > free) {
      throw new Error(
        `${this.#folder.name}: expected ${needed} free bytes for the teacher's predictions, got ${free}; a smaller teacherTopK needs fewer`,
      );
    }
    return missing;
  }

  async write(index: number, { ids, logProbs }: TopK): Promise<void> {
    const bytes = new Uint8Array(this.#bytes);
    bytes.set(new Uint8Array(ids.buffer, ids.byteOffset, ids.byteLength));
    bytes.set(new Uint8Array(logProbs.buffer, logProbs.byteOffset, logProbs.byteLength), ids.byteLength);
    await this.#folder.write(nameOf(index), bytes);
  }

  async read(index: number): Promise<TopK> {
    const bytes = await readSmallFile(this.#folder, nameOf(index), this.#bytes);
    if (bytes?.length !== this.#bytes) {
      throw new Error(
        `${this.#folder.nameOf(nameOf(index))}: expected ${this.#bytes} bytes of predictions, got ${bytes?.length ?? 'no file'}`,
      );
    }
    const [count, k] = [this.#count, this.#k];
    const { buffer } = bytes.slice();
    return {
      ...{ count, k },
      ids: new Int32Array(buffer, 0, count * k),
      logProbs: new Float32Array(buffer, 4 * count * k),
    };
  }

  async remove(): Promise<void> {
    await this.#parent.remove(FOLDER);
  }
}

function nameOf(index: number): string {
  return `batch-${index}`;
}

/** The teacher is in memory only while there are batches to compute. */
async function computeMissing(files: PredictionFiles, options: TeacherOptions): Promise<void> {
  const { data, settings, firstStep, teacherTopK, signal, onProgress } = options;
  const { accumulate, steps } = settings;
  const [first, end] = [firstStep * accumulate, steps * accumulate];
  const missing = await files.missing(first, end);
  if (missing.length === 0) return;
  const isNew = missing.length === end - first;
  const model = await loadTeacher(options).catch(async (error: unknown) => {
    // A folder with nothing in it but the identity would keep another run out.
    if (isNew) await files.remove();
    throw error;
  });
  try {
    for (const [i, index] of missing.entries()) {
      onProgress?.(end - first - missing.length + i, end - first);
      const rows = inputsOf(trainingBatch(data, settings, index));
      // Row by row: the logits of a batch can be large.
      const parts = rows.map((row) => predictions(model, row, teacherTopK));
      await files.write(index, joined(parts));
      await eventLoopTurn();
      signal?.throwIfAborted();
    }
  } finally {
    model.dispose();
  }
}

async function loadTeacher({ teacher, token, cache, vocabSize }: TeacherOptions): Promise<Model> {
  await using checkpoint = await openCheckpoint(teacher, { token, cache });
  const { config } = await describeModel(checkpoint, await readyBackend());
  if (config.vocabSize !== vocabSize) {
    throw new RangeError(
      `uptrain: expected a teacher with the model's vocabulary of ${vocabSize} tokens, got ${config.vocabSize} in ${sourceName(teacher)}`,
    );
  }
  return await loadModel(teacher, { token, cache });
}

function predictions(model: Model, row: readonly number[], k: number): TopK {
  const logits = model.forward([row]);
  try {
    return topKOf(logits.dataSync() as Float32Array, model.config.vocabSize, k);
  } finally {
    logits.dispose();
  }
}

function joined(parts: readonly TopK[]): TopK {
  const [{ k }] = parts;
  const count = parts.reduce((sum, part) => sum + part.count, 0);
  const ids = new Int32Array(count * k);
  const logProbs = new Float32Array(count * (k + 1));
  let at = 0;
  for (const part of parts) {
    ids.set(part.ids, at * k);
    logProbs.set(part.logProbs, at * (k + 1));
    at += part.count;
  }
  return { count, k, ids, logProbs };
}
