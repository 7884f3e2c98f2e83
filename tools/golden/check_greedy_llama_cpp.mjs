// Compares greedy tokens of this library with llama.cpp's own, step by step, on the tiny GGUF files of test/golden
// (through node-llama-cpp 3.22, which is no dependency of this repository: install it somewhere else and run this file
// from there). A row agrees when all steps do up to the first whose two best logits differ by less than 1e-3.
//
// Windows: llama.cpp has none for `llama` and switches Phi-3's off, so files that state one are compared up to its length.
//
// Quantised weights: llama.cpp quantises activations as well, so of `quant/` only files with wide margins are compared.
//
// Usage: node check_greedy_llama_cpp.mjs GQA_REPOSITORY [FOLDER/NAME …]   (after `npm run build` there)

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const FILES = [
  'tiny-mistral/window',
  'tiny-mistral/plain',
  'tiny-qwen2/plain',
  'tiny-qwen3/plain',
  'tiny-phi3/plain',
  'tiny-phi3/longrope',
  'tiny-gpt2/prefix',
  'quant/k-mixed',
];
const TIE = 1e-3;
const STEPS = 16;

const entry = createRequire(pathToFileURL(`${process.cwd()}/`)).resolve('node-llama-cpp');
const { getLlama } = await import(pathToFileURL(entry).href);
const [repository, ...chosen] = process.argv.slice(2);
const ours = (path) => import(pathToFileURL(join(repository, 'dist', path)).href);
const { loadModel } = await ours('models/index.js');
const { loadTensor, openCheckpoint } = await ours('checkpoint/index.js');

const llama = await getLlama({ gpu: false, build: 'never' });
let wrong = 0;
for (const name of chosen.length > 0 ? chosen : FILES) {
  const base = join(repository, 'test/golden', name);
  const modelPath = `${base}.gguf`;
  if (!existsSync(modelPath)) throw new Error(`no ${modelPath}`);
  const whole = join(base, 'golden.safetensors');
  const golden = await openCheckpoint(existsSync(whole) ? whole : `${base}.safetensors`);
  const prompt = Array.from(loadTensor(golden, 'greedy/prompt').dataSync());
  await golden.close();
  const model = await loadModel(modelPath);
  const window = Math.min(...model.config.attention.map((layer) => layer.window ?? Number.POSITIVE_INFINITY));
  const steps = Math.min(STEPS, window - prompt.length + 1);
  const { tokens, margins } = greedy(model, prompt, steps);
  model.dispose();
  const theirs = await llamaGreedy(modelPath, prompt, steps);
  const parted = tokens.findIndex((token, i) => token !== theirs[i]);
  const tie = margins.findIndex((margin) => margin < TIE);
  const agrees = parted < 0 || (tie >= 0 && tie <= parted);
  if (!agrees) wrong++;
  const same = parted < 0 ? tokens.length : parted;
  console.log(
    `${agrees ? 'ok' : 'WRONG'} ${name}: ${same} of ${steps} tokens the same, smallest margin ${Math.min(...margins).toFixed(4)}${tie < 0 ? '' : `, tie at step ${tie}`}`,
  );
}
console.log(`${wrong} different`);
process.exit(wrong === 0 ? 0 : 1);

/** By whole passes. */
function greedy(model, prompt, steps) {
  const history = [...prompt];
  const margins = [];
  for (let step = 0; step < steps; step++) {
    const logits = model.forward([history], { logits: 'last' });
    const order = Array.from(logits.dataSync(), (value, id) => [value, id]).sort((a, b) => b[0] - a[0]);
    logits.dispose();
    margins.push(order[0][0] - order[1][0]);
    history.push(order[0][1]);
  }
  return { tokens: history.slice(prompt.length), margins };
}

async function llamaGreedy(modelPath, prompt, steps) {
  const model = await llama.loadModel({ modelPath });
  const context = await model.createContext({
    contextSize: 64,
    threads: 1,
    experimentalKvCacheKeyType: 'F32',
    experimentalKvCacheValueType: 'F32',
  });
  const tokens = [];
  for await (const token of context.getSequence().evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
    tokens.push(token);
    if (tokens.length >= steps) break;
  }
  await context.dispose();
  await model.dispose();
  return tokens;
}
