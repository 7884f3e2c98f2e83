/**
 * Compares greedy speculation with plain decoding: `node bench/speculation.mjs MODEL [DRAFT] [PROMPTS] [TOKENS]`.
 * DRAFT is a checkpoint of the same vocabulary (`-` = none), PROMPTS defaults to 500, TOKENS per prompt to 32.
 *
 * Prints how many prompts give the same tokens with prompt lookup and with the draft model, and for each that
 * differs the margin of the two likeliest tokens there; exits with 1 if one of them is above 1e-4. Prompts
 * repeat parts of themselves, so that there is something to look up.
 */
import { generateBatch, loadModel } from '../dist/models/index.js';

const [path, draftPath = '-', prompts = '500', tokens = '32'] = process.argv.slice(2);
const model = await loadModel(path);
const draftModel = draftPath === '-' ? undefined : await loadModel(draftPath);
const { vocabSize } = model.config;

/** Numbers of a linear congruential generator (Numerical Recipes), so that every run has the same prompts. */
let state = 1;
const below = (limit) => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * limit);
};
const list = Array.from({ length: Number(prompts) }, () => {
  const part = Array.from({ length: 3 + below(12) }, () => below(vocabSize));
  return [...part, below(vocabSize), ...part.slice(0, 1 + below(part.length))];
});

/** The difference of the two largest logits after `row`. */
function marginAfter(row) {
  const logits = model.forward([row], { logits: 'last' });
  const [first, second] = logits.dataSync().toSorted((a, b) => b - a);
  logits.dispose();
  return first - second;
}

const run = async (options) => {
  let passes = 0;
  const { forward } = model;
  model.forward = (rows, given) => {
    passes += rows.length;
    return forward.call(model, rows, given);
  };
  const results = await generateBatch(model, list, { maxNewTokens: Number(tokens), stop: [], ...options });
  model.forward = forward;
  return { answers: results.map(([result]) => result.tokens), passes };
};

const plain = await run({});
console.log(
  `${list.length} prompts, ${tokens} tokens each: ${plain.passes} rows of passes without speculation`,
);
const kinds = { 'prompt lookup': { promptLookup: 8 }, ...(draftModel && { 'draft model': { draftModel } }) };
for (const [name, options] of Object.entries(kinds)) {
  const { answers, passes } = await run(options);
  const margins = answers.flatMap((answer, i) => {
    const at = answer.findIndex((token, t) => token !== plain.answers[i][t]);
    return at < 0 ? [] : [marginAfter([...list[i], ...answer.slice(0, at)])];
  });
  console.log(`${name}: ${list.length - margins.length} the same, ${passes} rows of passes`, margins);
  if (margins.some((margin) => margin > 1e-4)) process.exitCode = 1;
}
draftModel?.dispose();
model.dispose();
