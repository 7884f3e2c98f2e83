/**
 * Measures a row of attention or `linear`. Each contender's output is checked against the formula. Then they
 * take turns (ours, peer, ours, peer, …), each turn some tens of milliseconds, and the row's roof is measured
 * in every round. A time is the median over all rounds; a ratio is the median of the rounds' ratios, so that
 * drift of the machine cancels.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { attentionTruth, largestError, linearTruth } from './inputs.mjs';
import { start } from './peers.mjs';
import { median, summarize } from './stats.mjs';

/** The running contenders; they stay running between rows. */
export class Contenders {
  #running = new Map();
  #failed = new Map();

  /** The contender of that name, started on first use. @throws Error with the reason when it cannot run */
  async get(name) {
    if (this.#failed.has(name)) throw this.#failed.get(name);
    let contender = this.#running.get(name);
    if (!contender) {
      try {
        contender = await start(name);
      } catch (error) {
        this.#failed.set(name, error);
        throw error;
      }
      this.#running.set(name, contender);
    }
    return contender;
  }

  /** name -> description of each running contender. */
  get descriptions() {
    return Object.fromEntries([...this.#running].map(([name, { description }]) => [name, description]));
  }

  async stop() {
    for (const contender of this.#running.values()) await contender.stop();
    this.#running.clear();
  }
}

/** Operations of unmasked scores and of their weighted sums; a multiply-add counts as two. */
export function attentionFlops({ B, T, S, N, H, causal }) {
  const pairs = causal ? (T * (T + 1)) / 2 : T * S;
  return 4 * B * N * H * pairs;
}

/** Bytes of keys and values. */
export function cacheBytes({ B, S, K, H, dtype }) {
  return 2 * B * S * K * H * (dtype === 'bf16' ? 2 : 4);
}

/**
 * Measures the rows of attention of one shape, one row per number of threads.
 * @param work `{ section, name, shape, contenders, threads: [1, 2], roof: 'fma' | 'bf16' | 'read', form? }`;
 *   the first contender is the row's subject, to which the others are compared
 * @param options `{ rounds, milliseconds, roofs, contenders, match, report }`; `report` is called with each row
 */
export async function measureAttention(work, options) {
  const { shape } = work;
  const costs = { flops: attentionFlops(shape), bytes: cacheBytes(shape) };
  await measureRows({ ...work, ...costs, expected: () => attentionTruth(shape) }, options);
}

/** The same for `linear`; the shape is `{ rows, In, Out, dtype }`, of which `dtype` is the weight's. */
export async function measureLinear(work, options) {
  const { rows, In, Out, dtype } = work.shape;
  const costs = { flops: 2 * rows * In * Out, bytes: In * Out * (dtype === 'bf16' ? 2 : 4) };
  const shape = { ...work.shape, op: 'linear' };
  await measureRows({ ...work, ...costs, shape, expected: () => linearTruth(shape) }, options);
}

/** Largest error of a contender, relative to the largest value: of exact products, and with bf16 operands. */
const tolerance = (contender, { dtype }) =>
  contender.endsWith('bfloat16') || (contender === 'torch' && dtype === 'bf16') ? 1e-2 : 1e-4;

async function measureRows(work, { rounds, milliseconds, roofs, contenders, match, report }) {
  const { shape, flops, bytes } = work;
  if (match && !work.name.includes(match)) return;
  const expected = work.expected();
  const ready = [];
  const skipped = [];
  const errors = {};
  for (const name of work.contenders) {
    try {
      const contender = await contenders.get(name);
      const { rows } = await contender.ask('prepare', { ...shape, threads: work.threads[0] });
      const error = largestError(rows, expected);
      const most = tolerance(name, shape);
      if (!(error <= most))
        throw new Error(`wrong result: error ${error.toExponential(1)}, expected <= ${most}`);
      errors[name] = error;
      ready.push(contender);
    } catch (error) {
      skipped.push({ contender: name, reason: error.message });
    }
  }
  for (const threads of work.threads) {
    const roof = { kind: work.roof, form: work.form, threads };
    const roofRates = [];
    for (const contender of ready) await contender.ask('setThreads', threads);
    const turns = Object.fromEntries(
      ready.map(({ name }) => [name, { times: [], medians: [], cpu: [], busy: [] }]),
    );
    for (const contender of ready) await contender.ask('sample', 0);
    for (let round = 0; round < rounds; round++) {
      const rate = await roofs.measure(roof);
      if (rate !== undefined) roofRates.push(rate);
      for (const contender of ready) {
        // A peer's threads may spin for a moment after its turn.
        await pause(10);
        const { times, cpu, busy } = await contender.ask('sample', milliseconds);
        const turn = turns[contender.name];
        turn.times.push(...times);
        turn.medians.push(median(times));
        turn.cpu.push(cpu);
        turn.busy.push(busy);
      }
    }
    const ours = turns[work.contenders[0]];
    const results = ready.map(({ name }) => {
      const turn = turns[name];
      const stats = summarize(turn.times);
      const result = {
        contender: name,
        error: errors[name],
        ...stats,
        cpu: median(turn.cpu),
        busy: median(turn.busy),
        gflops: flops / stats.median / 1e6,
        gbs: bytes / stats.median / 1e6,
      };
      if (ours && turn !== ours)
        result.oursFaster = median(turn.medians.map((time, i) => time / ours.medians[i]));
      return result;
    });
    // The bandwidth changes from minute to minute, so a row has its own; a peak is the best of the run.
    if (roof.kind === 'read' && roofRates.length > 0) roof.rate = median(roofRates);
    await report({
      section: work.section,
      name: `${work.name}, ${threads} ${threads === 1 ? 'thread' : 'threads'}`,
      shape,
      threads,
      roof,
      flops,
      bytes,
      results,
      skipped,
    });
  }
  for (const contender of ready) await contender.ask('release');
}
