/**
 * Whole models. SmolLM2-135M-Instruct in Q4_1 beside llama.cpp on the same file: the time from process start to
 * the end of the first forward pass, prefill of 512 tokens, decode of 128, and memory. The same model in bf16
 * (a folder made from the file) beside PyTorch: prefill. Decode rows of one weight format have the share of the
 * read bandwidth: a token reads every weight once.
 */
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { start } from './peers.mjs';
import { median, summarize } from './stats.mjs';

const FILE = 'SmolLM2-135M-Instruct.Q4_1.gguf';
const NAME = 'SmolLM2-135M';
const PREFILL = 512;
const DECODE = 128;

const folder = process.env.GQA_MODELS ?? fileURLToPath(new URL('../../shared/models', import.meta.url));

/** The rows of the Q4_1 file. The first contender is the row's subject, to which the others are compared. */
export async function model(options) {
  const path = join(folder, FILE);
  if (!existsSync(path)) return reportMissing('model', path, options);
  const programs = new Programs(path);
  try {
    await measureStart(programs, ['model native', 'model wasm', 'llama.cpp'], options);
    for (const threads of options.threads)
      for (const kind of ['prefill', 'decode']) {
        // WASM has one thread here.
        const wasm = threads === 1 ? ['model wasm'] : [];
        const row = { section: 'model', kind, threads, programs, bytes: statSync(path).size };
        const exact = ['model native', ...wasm, 'llama.cpp'];
        await measure({ ...row, name: `${NAME} Q4_1`, contenders: exact }, options);
        const int8 = ['model native int8', 'model native', 'llama.cpp'];
        await measure({ ...row, name: `${NAME} Q4_1 int8`, contenders: int8 }, options);
        const read = ['model native int8', 'model native', 'llama.cpp'].map((name) => `${name} --no-mmap`);
        await measure({ ...row, name: `${NAME} Q4_1 int8 --no-mmap`, contenders: read }, options);
        if (threads > 1) continue;
        const wasmInt8 = ['model wasm int8', 'model wasm'];
        await measure({ ...row, name: `${NAME} Q4_1 WASM int8`, contenders: wasmInt8 }, options);
      }
    await reportMemory(programs, options);
  } finally {
    await programs.stop(options);
  }
}

/** The rows of the model in bf16. */
export async function bf16Model(options) {
  const source = join(folder, FILE);
  if (!existsSync(source)) return reportMissing('bf16 model', source, options);
  const path = mkdtempSync(join(tmpdir(), 'gqa-bench-'));
  const programs = new Programs(path);
  try {
    const { loadModel, saveModel } = await import('gqa/models');
    const loaded = await loadModel(source);
    await saveModel(path, loaded, { dtype: 'bf16' });
    loaded.dispose();
    const bytes = statSync(join(path, 'model.safetensors')).size;
    for (const threads of options.threads) {
      const row = { section: 'bf16 model', name: `${NAME} bf16`, threads, programs, bytes };
      const contenders = ['model native bfloat16', 'model native', 'model torch'];
      await measure({ ...row, kind: 'prefill', contenders }, options);
      await measure({ ...row, kind: 'decode', contenders: ['model native'] }, options);
    }
  } finally {
    await programs.stop(options);
    rmSync(path, { recursive: true });
  }
}

/** The programs that have the model at `path` loaded, started on first use. */
class Programs {
  #path;
  #running = new Map();
  #failed = new Map();

  constructor(path) {
    this.#path = path;
  }

  get running() {
    return [...this.#running.values()];
  }

  /** @throws Error with the reason when it cannot run */
  async get(name) {
    if (this.#failed.has(name)) throw this.#failed.get(name);
    if (!this.#running.has(name)) await this.open(name);
    return this.#running.get(name);
  }

  /** Starts a program, again when it runs. Returns `{ loaded, firstForward }`, milliseconds since its start. */
  async open(name) {
    await this.#running.get(name)?.stop();
    this.#running.delete(name);
    try {
      const spawned = Date.now();
      const contender = await start(name);
      const times = await contender.ask('load', { path: this.#path, spawned });
      this.#running.set(name, contender);
      return times;
    } catch (error) {
      this.#failed.set(name, error);
      throw error;
    }
  }

  async stop({ descriptions }) {
    for (const contender of this.running) {
      descriptions[contender.name] = contender.description;
      await contender.stop();
    }
  }
}

async function reportMissing(section, path, { report }) {
  const reason = `no ${path} (GQA_MODELS names the folder)`;
  await report({ section, name: FILE, results: [], skipped: [{ contender: 'all', reason }] });
}

/** Each start is a fresh process; the last one stays for the rows. */
async function measureStart(programs, contenders, { starts, match, report }) {
  const name = 'start to first forward pass';
  if (match && !name.includes(match)) return;
  const results = [];
  const skipped = [];
  for (const contender of contenders) {
    const times = [];
    try {
      for (let i = 0; i < starts; i++) times.push(await programs.open(contender));
      const { rss } = await (await programs.get(contender)).ask('memory');
      results.push({
        contender,
        ...summarize(times.map(({ firstForward }) => firstForward)),
        loaded: median(times.map(({ loaded }) => loaded)),
        rssMiB: rss / 2 ** 20,
      });
    } catch (error) {
      skipped.push({ contender, reason: error.message });
    }
  }
  await report({ section: 'model', name, results, skipped });
}

async function reportMemory(programs, { match, report }) {
  const name = 'memory after the rows above';
  const compared = programs.running.filter(({ name }) => !name.includes('int8'));
  if (match && !name.includes(match)) return;
  const results = await Promise.all(
    compared.map(async (contender) => {
      const { rss, most } = await contender.ask('memory');
      return { contender: contender.name, rssMiB: rss / 2 ** 20, mostMiB: most / 2 ** 20 };
    }),
  );
  await report({ section: 'model', name, results, skipped: [] });
}

/**
 * Prefill or decode on a number of threads.
 * @param row `{ section, name, kind, threads, programs, contenders, bytes }`; `bytes` of all weights
 */
async function measure(row, { rounds, milliseconds, match, roofs, report }) {
  const { section, kind, threads, programs, contenders, bytes } = row;
  const prefill = kind === 'prefill';
  const name = `${row.name} ${kind} ${prefill ? PREFILL : DECODE}`;
  if (match && !name.includes(match)) return;
  const request = prefill ? { count: PREFILL, milliseconds } : { count: DECODE };
  const roof = { kind: 'read', threads };
  const roofRates = [];
  const taking = [];
  const skipped = [];
  const turns = {};
  let expected;
  for (const contender of contenders) {
    try {
      const program = await programs.get(contender);
      await program.ask('setThreads', threads);
      const { logits } = await program.ask(kind, { ...request, milliseconds: 0 });
      if (logits) expected ??= logits;
      if (logits && !(distance(logits, expected) <= 0.1))
        throw new Error(`wrong result: logits ${distance(logits, expected).toFixed(2)} apart`);
      taking.push(program);
      turns[contender] = { times: [], medians: [], cpu: [], busy: [], tokens: [] };
    } catch (error) {
      skipped.push({ contender, reason: error.message });
    }
  }
  for (let round = 0; round < rounds; round++) {
    const rate = prefill ? undefined : await roofs.measure(roof);
    if (rate !== undefined) roofRates.push(rate);
    for (const contender of taking) {
      await pause(10);
      const { times, cpu, busy, tokens } = await contender.ask(kind, request);
      const turn = turns[contender.name];
      turn.times.push(...times);
      turn.medians.push(median(times));
      turn.cpu.push(cpu);
      turn.busy.push(busy);
      if (tokens) turn.tokens = tokens;
    }
  }
  const count = prefill ? PREFILL : 1;
  const ours = turns[contenders[0]];
  const results = taking.map((contender) => {
    const turn = turns[contender.name];
    const stats = summarize(turn.times);
    const result = {
      contender: contender.name,
      ...stats,
      cpu: median(turn.cpu),
      busy: median(turn.busy),
      tokensPerSecond: (1000 * count) / stats.median,
    };
    if (!prefill) result.gbs = bytes / stats.median / 1e6;
    if (ours && turn !== ours) {
      result.oursFaster = median(turn.medians.map((time, i) => time / ours.medians[i]));
      // Activations in 8 bits, llama.cpp's too, give other greedy tokens after some steps.
      if (!prefill) result.sameTokens = commonPrefix(turn.tokens, ours.tokens);
    }
    return result;
  });
  if (roofRates.length > 0) roof.rate = median(roofRates);
  await report({
    section,
    name: `${name}, ${threads} ${threads === 1 ? 'thread' : 'threads'}`,
    threads,
    ...(prefill ? {} : { roof, bytes }),
    results,
    skipped,
  });
}

/** The distance of two vectors of logits, as a share of the second one's length. */
function distance(a, b) {
  return Math.hypot(...a.map((x, i) => x - b[i])) / Math.hypot(...b);
}

function commonPrefix(a, b) {
  let same = 0;
  while (same < a.length && a[same] === b[same]) same++;
  return same;
}
