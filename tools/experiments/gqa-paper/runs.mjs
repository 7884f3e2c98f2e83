/**
 * The losses of the experiment, cell by cell: (seed, K, method, alpha). A cell that is in the results file is not computed again, and
 * trainings go on from their checkpoints, so a run that was ended is continued by the same command.
 */
import { execFileSync } from 'node:child_process';
import { appendFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export const HEADS = 6;
/** K after conversion. */
export const GROUPS = [3, 2, 1];
export const ALPHAS = [0, 0.01, 0.02, 0.05, 0.1];
export const METHODS = ['mean', 'first', 'random', 'similar'];
/** Methods whose results are uptrained: all at K = 1, as in the paper. */
export const uptrainedMethods = (K) => (K === 1 ? METHODS : ['mean', 'similar']);
export const SIZES = { layers: 4, dim: 144, heads: HEADS, block: 64, batch: 12 };
/** Tokens of the validation part that all losses are means over. */
const HELD_OUT = 32_000;
/** Characters of the training part that `similar` reads. */
const CALIBRATION = 20_000;
/** K of the models that are trained from scratch, to compare with. */
export const SCRATCH_GROUPS = [2, 1];
/** The multi-head model itself, trained on, and trainings from scratch with K heads. */
export const CONTINUED = 'continued';
export const SCRATCH = 'scratch';
/** `similar`, then distilled instead of uptrained: steps of each layer, then of all together. */
export const DISTILLED = 'distill';
const DISTILL = { steps: 100, finalSteps: 20 };
/** Its place among the shares of uptraining: it takes about its processor time. */
export const DISTILLED_ALPHA = 0.05;

/** Cells that are done: one JSON line each, in a file that several processes may add to. */
export class Results {
  #path;

  constructor(path) {
    this.#path = path;
  }

  get all() {
    if (!existsSync(this.#path)) return [];
    const cells = new Map();
    for (const line of readFileSync(this.#path, 'utf8').split('\n')) {
      try {
        const cell = JSON.parse(line);
        cells.set(keyOf(cell), cell);
      } catch {
        // The end of the file, or a line that was cut off: computed again.
      }
    }
    return [...cells.values()];
  }

  has(cell) {
    return this.all.some((other) => keyOf(other) === keyOf(cell));
  }

  record(cell) {
    appendFileSync(this.#path, `${JSON.stringify(cell)}\n`);
  }
}

function keyOf({ seed, K, method, alpha }) {
  return `${seed}/${K}/${method}/${alpha}`;
}

/**
 * Everything for one seed.
 * @param setup `{ work, steps, threads, cli, text, results, library }`; library: the functions of `gqa/convert` and `gqa/train`
 */
export async function runSeed(seed, setup) {
  const { results, library } = setup;
  const folder = join(setup.work, `seed-${seed}`);
  mkdirSync(folder, { recursive: true });
  const multiHead = train(seed, HEADS, folder, setup);
  await cell({ seed, K: HEADS, method: CONTINUED, alpha: 0 }, () => lossAt(multiHead));
  const converted = async (K, method) => {
    const to = join(folder, `${method}-${K}`);
    if (existsSync(to)) return to;
    const calibration = method === 'similar' ? setup.text.slice(0, CALIBRATION) : undefined;
    const options = { from: multiHead, to, numKeyValueHeads: K, method, seed: Number(seed), calibration };
    await library.convertCheckpoint(options);
    return to;
  };
  for (const alpha of ALPHAS) {
    for (const K of GROUPS) {
      for (const method of alpha === 0 ? METHODS : uptrainedMethods(K)) {
        await cell(
          { seed, K, method, alpha },
          async () => await uptrained(await converted(K, method), alpha),
        );
      }
    }
    await cell({ seed, K: HEADS, method: CONTINUED, alpha }, () => uptrained(multiHead, alpha));
  }
  for (const K of GROUPS) {
    await cell({ seed, K, method: DISTILLED, alpha: DISTILLED_ALPHA }, () => distilled(K));
  }
  for (const K of SCRATCH_GROUPS) {
    await cell({ seed, K, method: SCRATCH, alpha: 1 }, () => lossAt(train(seed, K, folder, setup)));
  }

  async function cell(what, compute) {
    if (results.has(what)) return;
    const before = process.cpuUsage();
    const loss = await compute();
    const { user, system } = process.cpuUsage(before);
    results.record({ ...what, loss, cpuSeconds: Number(((user + system) / 1e6).toFixed(1)) });
    process.stderr.write(
      `seed ${seed}, K=${what.K}, ${what.method}, alpha ${what.alpha}: ${loss.toFixed(4)}\n`,
    );
  }

  async function lossAt(checkpoint) {
    return heldOutLoss(await library.loadTrainableModel(checkpoint), setup);
  }

  async function distilled(K) {
    const to = join(folder, `${DISTILLED}-${K}`);
    // The part that models are trained on.
    const text = setup.text.slice(0, Math.floor(0.9 * setup.text.length));
    const distill = { text, ...DISTILL, seed: Number(seed) };
    const calibration = text.slice(0, CALIBRATION);
    await library.convertCheckpoint({
      from: multiHead,
      to,
      numKeyValueHeads: K,
      calibration,
      distill,
      force: true,
    });
    return lossAt(to);
  }

  /** The recipe goes on for a share of its steps; each alpha is a run of its own, with its own schedule. */
  async function uptrained(from, alpha) {
    if (alpha === 0) return lossAt(from);
    const { model } = await library.uptrain({ from, text: setup.text, alpha, evaluationBatches: 1 });
    return heldOutLoss(model, setup);
  }
}

/** `gqa train` from scratch. @returns the last checkpoint */
function train(seed, K, folder, { steps, threads, cli }) {
  const out = join(folder, `scratch-${K}`);
  const last = join(out, `step-${steps}`);
  if (existsSync(last)) return last;
  const sizes = Object.entries(SIZES).flatMap(([name, value]) => [`--${name}`, `${value}`]);
  const run = ['--steps', `${steps}`, '--seed', seed, '--threads', threads, '--keep', '1', '--resume'];
  const where = ['--data', 'moby-dick', '--out', out, '--kv-heads', `${K}`];
  execFileSync(process.execPath, [cli, 'train', ...where, ...sizes, ...run], { stdio: 'inherit' });
  return last;
}

let heldOut;

function heldOutLoss(model, { text, library }) {
  try {
    // The same characters for all, and so the same tokens.
    heldOut ??= library
      .splitTokens(Int32Array.from(model.tokenizer.encode(text)), SIZES.block, 0.1)
      .validation.subarray(0, HELD_OUT);
    return library.evaluateTokens(model, heldOut, { context: SIZES.block, batchSize: SIZES.batch }).loss;
  } finally {
    model.dispose();
  }
}
