// What the comparisons with llama.cpp share: node-llama-cpp 3.22, found from the current folder (it is no
// dependency of this repository: install it somewhere else and run a check from there), greedy tokens of both
// sides, and when they agree.

import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

/** Two logits closer than this may swap with another order of sums. */
export const TIE = 1e-3;

/** This library's built entries, such as `ours(repository, 'models')`. */
export const ours = (repository, entry) =>
  import(pathToFileURL(join(repository, 'dist', entry, 'index.js')).href);

export async function openLlama() {
  const entry = createRequire(pathToFileURL(`${process.cwd()}/`)).resolve('node-llama-cpp');
  const { getLlama } = await import(pathToFileURL(entry).href);
  return getLlama({ gpu: false, build: 'never' });
}

/** Greedy tokens of one of our models by whole passes, and the margin of each. */
export function greedy(model, prompt, steps) {
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

/** Greedy tokens of llama.cpp, with an f32 cache on one thread. */
export async function llamaGreedy(llama, modelPath, prompt, steps) {
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

/** Whether all steps are the same up to the first tie, and how many are. */
export function agreement({ tokens, margins }, theirs) {
  const parted = tokens.findIndex((token, i) => token !== theirs[i]);
  const tie = margins.findIndex((margin) => margin < TIE);
  return {
    agrees: parted < 0 || (tie >= 0 && tie <= parted),
    same: parted < 0 ? tokens.length : parted,
    tie,
    smallest: Math.min(...margins),
  };
}
