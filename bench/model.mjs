/**
 * A whole model beside llama.cpp on the same file, SmolLM2-135M-Instruct in Q4_1: prefill of 512 tokens,
 * decode of 128, the time from process start to the end of the first forward pass, and memory.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { start } from './peers.mjs';
import { median, summarize } from './stats.mjs';

const FILE = 'SmolLM2-135M-Instruct.Q4_1.gguf';
const PREFILL = 512;
const DECODE = 128;

export async function model(options) {
  const folder = process.env.GQA_MODELS ?? fileURLToPath(new URL('../../shared/models', import.meta.url));
  const path = join(folder, FILE);
  if (!existsSync(path)) {
    await options.report({
      section: 'model',
      name: FILE,
      results: [],
      skipped: [{ contender: 'all', reason: `no ${path} (GQA_MODELS names the folder)` }],
    });
    return;
  }
  const skipped = [];
  const running = [];
  const starts = {};
  for (const name of ['model native', 'model wasm', 'llama.cpp']) {
    starts[name] = [];
    try {
      // Each start is a fresh process; the last one stays for the rows.
      for (let i = 0; i < options.starts; i++) {
        const spawned = Date.now();
        const contender = await start(name);
        starts[name].push(await contender.ask('load', { path, spawned }));
        if (i === options.starts - 1) {
          running.push(contender);
          contender.memory = await contender.ask('memory');
        } else {
          await contender.stop();
        }
      }
    } catch (error) {
      skipped.push({ contender: name, reason: error.message });
    }
  }
  await options.report({
    section: 'model',
    name: 'start to first forward pass',
    results: running.map((contender) => ({
      contender: contender.name,
      ...summarize(starts[contender.name].map(({ firstForward }) => firstForward)),
      loaded: median(starts[contender.name].map(({ loaded }) => loaded)),
      rssMiB: contender.memory.rss / 2 ** 20,
    })),
    skipped,
  });
  for (const threads of options.threads) {
    await measure({ kind: 'prefill', threads, running, skipped }, options);
    await measure({ kind: 'decode', threads, running, skipped }, options);
  }
  await options.report({
    section: 'model',
    name: 'memory after the rows above',
    results: await Promise.all(
      running.map(async (contender) => {
        const { rss, most } = await contender.ask('memory');
        return { contender: contender.name, rssMiB: rss / 2 ** 20, mostMiB: most / 2 ** 20 };
      }),
    ),
    skipped: [],
  });
  Object.assign(options.descriptions, Object.fromEntries(running.map((c) => [c.name, c.description])));
  for (const contender of running) await contender.stop();
}

/** Prefill or decode on a number of threads. WASM has one thread, so it is only in the rows of one thread. */
async function measure({ kind, threads, running, skipped }, { rounds, milliseconds, report }) {
  const taking = running.filter(({ name }) => threads === 1 || name !== 'model wasm');
  for (const contender of taking) await contender.ask('setThreads', threads);
  const turns = Object.fromEntries(
    taking.map(({ name }) => [name, { times: [], medians: [], cpu: [], busy: [], tokens: [] }]),
  );
  const request = kind === 'prefill' ? { count: PREFILL, milliseconds } : { count: DECODE };
  for (const contender of taking) await contender.ask(kind, { ...request, milliseconds: 0 });
  for (let round = 0; round < rounds; round++) {
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
  const count = kind === 'prefill' ? PREFILL : 1;
  const ours = turns['model native'];
  const results = taking.map(({ name }) => {
    const turn = turns[name];
    const stats = summarize(turn.times);
    const result = {
      contender: name,
      ...stats,
      cpu: median(turn.cpu),
      busy: median(turn.busy),
      tokensPerSecond: (1000 * count) / stats.median,
    };
    if (ours && turn !== ours) {
      result.oursFaster = median(turn.medians.map((time, i) => time / ours.medians[i]));
      // llama.cpp rounds activations to 8 bits, so its greedy tokens differ from ours after some steps.
      if (kind === 'decode') result.sameTokens = commonPrefix(turn.tokens, ours.tokens);
    }
    return result;
  });
  const name = kind === 'prefill' ? `prefill ${PREFILL}` : `decode ${DECODE}`;
  await report({
    section: 'model',
    name: `SmolLM2-135M Q4_1 ${name}, ${threads} ${threads === 1 ? 'thread' : 'threads'}`,
    threads,
    results,
    skipped,
  });
}

function commonPrefix(a, b) {
  let same = 0;
  while (same < a.length && a[same] === b[same]) same++;
  return same;
}
