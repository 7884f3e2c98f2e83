/**
 * The time of a model's forward pass, or of training steps, by kernel call. Backend methods are timed; the rest
 * is TypeScript.
 *
 * Usage: node bench/profile.mjs [--backend native] [--threads 1] [--prefill 512] [--decode 64]
 *          [--no-mmap] [checkpoint]
 *        node bench/profile.mjs [--backend native] [--threads 1] --train 8
 * --train: steps of the GPT of 9.6 million parameters in training.mjs. It needs dist/. The default checkpoint is SmolLM2-135M-Instruct.Q4_1.gguf in the folder that GQA_MODELS
 * names.
 */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { setThreads } from 'gqa';
import { loadModel } from 'gqa/models';
// The backend itself: what `setBackend` of 'gqa' returns has no methods to time.
import { setBackend } from '../dist/backend/registry.js';
import { median } from './stats.mjs';
import { TRAINING_ROWS, trainingStep } from './training-step.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    backend: { type: 'string', default: 'native' },
    threads: { type: 'string', default: '1' },
    prefill: { type: 'string', default: '512' },
    decode: { type: 'string', default: '64' },
    'no-mmap': { type: 'boolean', default: false },
    train: { type: 'string' },
  },
});
const folder = process.env.GQA_MODELS ?? fileURLToPath(new URL('../../shared/models', import.meta.url));
const backend = await setBackend(values.backend);
await setThreads(Number(values.threads));

/** name -> milliseconds of each call */
const spent = new Map();
/** Milliseconds inside the backend since it was last set to 0. */
let inside = 0;

function time(name, run) {
  const start = performance.now();
  const result = run();
  const elapsed = performance.now() - start;
  inside += elapsed;
  if (!spent.has(name)) spent.set(name, []);
  spent.get(name).push(elapsed);
  return result;
}

for (const name of Object.getOwnPropertyNames(Object.getPrototypeOf(backend))) {
  const method = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(backend), name).value;
  if (name === 'constructor' || typeof method !== 'function') continue;
  backend[name] = (...args) => time(label(name, args), () => method.apply(backend, args));
}

/** Kernel calls by name; `linear` also by its features, which separates qkv, o, gate-up, down and the head. */
function label(method, [call, callArguments]) {
  if (method !== 'run') return method;
  if (!call.name.startsWith('linear')) return call.name;
  const { inFeatures, parts } = callArguments;
  return `${call.name} ${inFeatures} -> ${parts.map(({ weight }) => weight.shape[0]).join(' + ')}`;
}

/** Times are a call's median times the number of calls, so that interruptions do not count. */
function report(title, passes, outside) {
  const rows = [...spent].map(([name, times]) => [name, times.length / passes, median(times)]);
  rows.push(['TypeScript', 1, median(outside)]);
  const total = rows.reduce((sum, [, calls, each]) => sum + calls * each, 0);
  console.log(`${title}: ${total.toFixed(3)} ms per pass, ${backend.description}`);
  for (const [name, calls, each] of rows.sort((a, b) => b[1] * b[2] - a[1] * a[2])) {
    const share = ((100 * calls * each) / total).toFixed(1);
    const ms = (calls * each).toFixed(3);
    console.log(
      `  ${name.padEnd(32)}${ms.padStart(9)} ms ${share.padStart(5)} %  ${calls.toFixed(0).padStart(4)} calls of ${(1000 * each).toFixed(1)} µs`,
    );
  }
}

function forward(model, tokens, cache) {
  const logits = model.forward([tokens], { cache, logits: 'last' });
  logits.dataSync();
  logits.dispose();
}

function run(title, passes, pass) {
  for (let i = 0; i < Math.min(passes, 8); i++) pass(i);
  spent.clear();
  const outside = [];
  for (let i = 0; i < passes; i++) {
    inside = 0;
    const start = performance.now();
    pass(i);
    outside.push(performance.now() - start - inside);
  }
  report(title, passes, outside);
}

function profileTraining() {
  const { step } = trainingStep(TRAINING_ROWS.large);
  run('training step', Number(values.train), step);
}

async function profileForward() {
  const path = positionals[0] ?? join(folder, 'SmolLM2-135M-Instruct.Q4_1.gguf');
  const model = await loadModel(path, { useMmap: !values['no-mmap'] });
  const count = Number(values.prefill);
  const tokens = Array.from({ length: count }, (_, i) => (i * 7919 + 13) % model.config.vocabSize);
  const cache = model.initCache({ batchSize: 1, maxLength: count + 16 + Number(values.decode) });
  run(`prefill of ${count} tokens`, 5, () => {
    cache.reset();
    forward(model, tokens, cache);
  });
  run('decode of one token after 16', Number(values.decode), () => {
    if (cache.lengths[0] >= 16 + Number(values.decode)) cache.truncate(0, 16);
    forward(model, [1], cache);
  });
  cache.dispose();
}

if (values.train === undefined) await profileForward();
else profileTraining();
