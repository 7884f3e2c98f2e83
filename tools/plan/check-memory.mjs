/**
 * Compares `gqa plan` with what models take on this machine: resident memory, and with `--speed` tokens per
 * second of a prompt and of decoding behind it. Models of random weights of several sizes and storage types
 * are made in a temporary folder, one at a time; each is measured in processes of its own, on native and WASM
 * kernels.
 *
 * Usage (after npm run build): node tools/plan/check-memory.mjs [--speed] [model.gguf …]
 * Linux only: it reads VmRSS and VmHWM of /proc/self/status. Exit code 1 when a memory is off by more than 3 %
 * and 20 MB, or a speed by more than 20 %.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const CONTEXT = 1024;
/** Decoding steps that are measured, and as many before. */
const DECODE = 48;
/** Estimates and measurements of which the median counts. */
const ROUNDS = 3;
/** Layers, D, N, K, feed-forward width, V and storage type: about 0.12, 0.35, 0.7 and 1.4 GB. */
const MODELS = [
  [
    '0.1 GB bf16',
    {
      numLayers: 8,
      hiddenSize: 640,
      numHeads: 10,
      numKeyValueHeads: 2,
      intermediateSize: 1728,
      vocabSize: 32000,
    },
    'bf16',
  ],
  [
    '0.35 GB f32',
    {
      numLayers: 6,
      hiddenSize: 1024,
      numHeads: 16,
      numKeyValueHeads: 4,
      intermediateSize: 2816,
      vocabSize: 16000,
    },
    'f32',
  ],
  [
    '0.7 GB f16',
    {
      numLayers: 12,
      hiddenSize: 1536,
      numHeads: 12,
      numKeyValueHeads: 4,
      intermediateSize: 4096,
      vocabSize: 32000,
    },
    'f16',
  ],
  [
    '1.4 GB bf16',
    {
      numLayers: 16,
      hiddenSize: 2048,
      numHeads: 16,
      numKeyValueHeads: 4,
      intermediateSize: 5632,
      vocabSize: 48000,
    },
    'bf16',
  ],
];

const own = fileURLToPath(import.meta.url);
const cli = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const args = process.argv.slice(2);
if (args[0] === '--measure') await measure(args[1], args[2], args[3] === 'speed');
else
  await check(
    args.includes('--speed'),
    args.filter((arg) => !arg.startsWith('--')),
  );

async function check(speed, given) {
  let wrong = 0;
  for (const path of given) wrong += compare(path, path, speed);
  for (const [name, sizes, dtype] of MODELS) {
    const folder = mkdtempSync(join(tmpdir(), 'gqa-plan-'));
    try {
      await make(folder, sizes, dtype);
      wrong += compare(name, folder, speed);
    } finally {
      rmSync(folder, { recursive: true });
    }
  }
  process.exitCode = wrong > 0 ? 1 : 0;
}

async function make(folder, sizes, dtype) {
  const { createModel, llamaConfig } = await import('gqa/train');
  const { saveModel } = await import('gqa/models');
  const model = createModel(llamaConfig(sizes));
  await saveModel(folder, model, { dtype });
  model.dispose();
}

function mega(bytes) {
  return (bytes / 1e6).toFixed(1);
}

function percent(ratio) {
  return `${ratio >= 1 ? '+' : ''}${(100 * (ratio - 1)).toFixed(1)} %`;
}

/** Prints one line per backend. @returns how many figures are too far off */
function compare(name, path, speed) {
  let wrong = 0;
  for (const backend of ['native', 'wasm']) {
    // In turns: what else the machine does changes within seconds.
    const rounds = Array.from({ length: speed ? ROUNDS : 1 }, () => [
      planned(path, backend, speed),
      measured(path, backend, speed),
    ]);
    const [[plan, found]] = rounds;
    const off = Math.abs(found.bytes - plan.bytes);
    const isOff = off > 0.03 * plan.bytes && off > 20e6;
    wrong += isOff;
    const ratio = percent(found.bytes / plan.bytes);
    let line = `${name} ${backend}: planned ${mega(plan.bytes)} MB, resident ${mega(found.bytes)} MB (${ratio})`;
    if (isOff) line += ' OFF';
    for (const kind of speed ? ['decode', 'prefill'] : []) {
      const [estimate, actual] = [0, 1].map((i) => median(rounds.map((round) => round[i][kind])));
      const isFar = Math.abs(actual / estimate - 1) > 0.2;
      wrong += isFar;
      line += `; ${kind} estimated ${estimate.toPrecision(3)}, measured ${actual.toPrecision(3)} tokens/s`;
      line += ` (${percent(actual / estimate)})${isFar ? ' OFF' : ''}`;
    }
    console.log(`${line}${speed ? `, load ${loadavg()[0].toFixed(1)}` : ''}`);
  }
  return wrong;
}

function median(list) {
  return [...list].sort((a, b) => a - b)[list.length >> 1];
}

/** Bytes, and tokens per second where asked for. */
function planned(path, backend, speed) {
  const device = speed ? ['--device', 'this', '--backend', backend] : [];
  const options = ['--context', String(CONTEXT), '--kv-dtype', 'f32', ...device, '--json'];
  const plan = JSON.parse(
    execFileSync(process.execPath, [cli, 'plan', path, ...options], { maxBuffer: 1 << 24 }),
  );
  const [decode, prefill] = [plan.speed?.decode, plan.speed?.prefill].map((part) => part?.tokensPerSecond);
  return { bytes: plan.memory.totalBytes, decode, prefill };
}

/** The same, of a model that runs. */
function measured(path, backend, speed) {
  const mode = speed ? 'speed' : 'memory';
  const args = ['--expose-gc', own, '--measure', path, backend, mode];
  return JSON.parse(execFileSync(process.execPath, args));
}

/** In a process of its own: what the model adds to the resident memory at its peak. */
async function measure(path, backend, speed) {
  const { setBackend } = await import('gqa');
  const { loadModel } = await import('gqa/models');
  await setBackend(backend);
  await startProgram();
  globalThis.gc();
  const before = status('VmRSS');
  const model = await loadModel(path);
  const cache = model.initCache({ batchSize: 1, maxLength: CONTEXT });
  const { vocabSize } = model.config;
  // A chunk as generate feeds it, then the rest, so that the cache has been written.
  const token = (i) => Math.floor((i * vocabSize) / CONTEXT);
  const feed = (from, to) => {
    const ids = Array.from({ length: to - from }, (_, i) => token(from + i));
    model.forward([ids], { cache, logits: 'last' }).dispose();
  };
  for (let at = 0; at < CONTEXT; at += 256) feed(at, at + 256);
  // Rows of a mapped table are in memory once they are read: all of them, as the plan counts them.
  for (let first = 0; first < vocabSize && !model.config.tiedEmbeddings; first += 256 * 8) {
    cache.truncate(0, 0);
    const ids = Array.from({ length: 256 }, (_, i) => Math.min(vocabSize - 1, first + 8 * i));
    model.forward([ids], { cache, logits: 'last' }).dispose();
  }
  globalThis.gc();
  const bytes = status('VmHWM') - before;
  console.log(JSON.stringify({ bytes, ...(speed && speeds(cache, feed)) }));
}

/** Tokens per second: a prompt of the whole context, and tokens at its end. */
function speeds(cache, feed) {
  const seconds = (call) => {
    const start = performance.now();
    call();
    return (performance.now() - start) / 1000;
  };
  cache.truncate(0, 0);
  const prefill = seconds(() => {
    for (let at = 0; at < CONTEXT; at += 256) feed(at, at + 256);
  });
  const step = () => {
    cache.truncate(0, CONTEXT - 1);
    feed(CONTEXT - 1, CONTEXT);
  };
  // The first are slower: their code is not compiled yet.
  for (let i = 0; i < DECODE; i++) step();
  const decode = median(Array.from({ length: DECODE }, () => seconds(step)));
  return { decode: 1 / decode, prefill: CONTEXT / prefill };
}

/** A tiny model, so that the kernels, their threads and their code are in memory before: they are the program's. */
async function startProgram() {
  const { createModel, llamaConfig } = await import('gqa/train');
  const model = createModel(llamaConfig({ vocabSize: 64, hiddenSize: 64, numLayers: 2, numHeads: 2 }));
  for (let i = 0; i < 20; i++) model.forward([Array.from({ length: 256 }, (_, t) => t % 64)]).dispose();
  model.dispose();
}

/** Bytes of a line of /proc/self/status. */
function status(key) {
  const [, kilobytes] = new RegExp(`^${key}:\\s+(\\d+) kB`, 'm').exec(
    readFileSync('/proc/self/status', 'utf8'),
  );
  return 1024 * Number(kilobytes);
}
