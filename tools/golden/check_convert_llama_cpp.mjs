// Converts the multi-head models of test/golden/convert to GGUF, with fewer heads, and compares greedy tokens of this library with
// llama.cpp's own (through node-llama-cpp 3.22, which is no dependency of this repository: install it somewhere else and run this
// file from there). A row agrees when all steps do up to the first whose two best logits differ by less than 1e-3.
//
// Usage: node check_convert_llama_cpp.mjs GQA_REPOSITORY [MODEL.gguf]   (after `npm run build` there); with a real model, it is
// taken to K = 1 too

import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const TIE = 1e-3;
const STEPS = 24;
const PROMPT = [5, 17, 9, 30, 11, 3, 22];

const entry = createRequire(pathToFileURL(`${process.cwd()}/`)).resolve('node-llama-cpp');
const { getLlama } = await import(pathToFileURL(entry).href);
const [repository, real] = process.argv.slice(2);
const ours = (path) => import(pathToFileURL(join(repository, 'dist', path)).href);
const { loadModel } = await ours('models/index.js');
const { convertCheckpoint } = await ours('convert/index.js');

const work = mkdtempSync(join(tmpdir(), 'gqa-llama-cpp-'));
const from = join(work, 'llama');
cpSync(join(repository, 'test/golden/convert/llama'), from, { recursive: true });
// Some vocabulary, without which llama.cpp does not open a file.
const vocab = Object.fromEntries(
  Array.from({ length: 37 }, (_, id) => [id === 36 ? 'Ċ' : String.fromCharCode(65 + id), id]),
);
const steps = { type: 'ByteLevel', add_prefix_space: false, use_regex: true };
writeFileSync(
  join(from, 'tokenizer.json'),
  JSON.stringify({
    model: { type: 'BPE', vocab, merges: ['A B'] },
    pre_tokenizer: steps,
    decoder: steps,
    added_tokens: [],
  }),
);

const llama = await getLlama({ gpu: false, build: 'never' });
let wrong = 0;
const cases = [6, 3, 2, 1].flatMap((K) => [
  [from, K, 'mean', 'f32'],
  [from, K, 'similar', 'f32'],
]);
if (real)
  cases.push(
    [real, 1, 'mean', 'f32'],
    [real, 1, 'similar', 'f32'],
    [real, 1, 'similar', 'f16'],
    [real, 1, 'similar', 'q8_0'],
  );
for (const [source, numKeyValueHeads, method, dtype] of cases) {
  const modelPath = join(work, 'model.gguf');
  await convertCheckpoint({ from: source, to: modelPath, numKeyValueHeads, method, dtype, force: true });
  const model = await loadModel(modelPath);
  const { tokens, margins } = greedy(model, PROMPT, STEPS);
  model.dispose();
  const theirs = await llamaGreedy(modelPath, PROMPT, STEPS);
  const parted = tokens.findIndex((token, i) => token !== theirs[i]);
  const tie = margins.findIndex((margin) => margin < TIE);
  const agrees = parted < 0 || (tie >= 0 && tie <= parted);
  if (!agrees) wrong++;
  const same = parted < 0 ? tokens.length : parted;
  console.log(
    `${agrees ? 'ok' : 'WRONG'} K=${numKeyValueHeads} ${method} ${dtype}: ${same} of ${STEPS} tokens the same, margin there ${margins[Math.min(same, STEPS - 1)].toFixed(4)}, smallest ${Math.min(...margins).toFixed(4)}`,
  );
}
rmSync(work, { recursive: true });
console.log(`${wrong} different`);
process.exit(wrong === 0 ? 0 : 1);

/** By whole passes. */
function greedy(model, prompt, count) {
  const history = [...prompt];
  const margins = [];
  for (let step = 0; step < count; step++) {
    const logits = model.forward([history], { logits: 'last' });
    const order = Array.from(logits.dataSync(), (value, id) => [value, id]).sort((a, b) => b[0] - a[0]);
    logits.dispose();
    margins.push(order[0][0] - order[1][0]);
    history.push(order[0][1]);
  }
  return { tokens: history.slice(prompt.length), margins };
}

async function llamaGreedy(modelPath, prompt, count) {
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
    if (tokens.length >= count) break;
  }
  await context.dispose();
  await model.dispose();
  return tokens;
}
