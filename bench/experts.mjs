/**
 * The time of a mixture-of-experts layer by number of experts: one token through models that choose 4 experts
 * of 4, 16 and 64. The times are equal if only the weights of chosen experts are read; `64 of 64` is for
 * comparison. The contenders take turns, with another token each time, so that the chosen experts change.
 *
 * Usage: node bench/experts.mjs [--threads 1,2] [--rounds 15]. It needs dist/ and the native build.
 */
import { parseArgs } from 'node:util';
import { setBackend, setThreads } from '../dist/index.js';
import { createModel } from '../dist/train/index.js';
import { summarize } from './stats.mjs';

const { values } = parseArgs({
  options: { threads: { type: 'string', default: '1,2' }, rounds: { type: 'string', default: '15' } },
});
const [VOCAB, LAYERS, HIDDEN, CALLS] = [512, 2, 512, 10];
const backend = await setBackend('native');
const config = (experts, chosen) => ({
  model_type: 'gpt_oss',
  vocab_size: VOCAB,
  hidden_size: HIDDEN,
  intermediate_size: HIDDEN,
  num_hidden_layers: LAYERS,
  num_attention_heads: 8,
  num_key_value_heads: 2,
  head_dim: 64,
  num_local_experts: experts,
  num_experts_per_tok: chosen,
  max_position_embeddings: 64,
  layer_types: Array(LAYERS).fill('full_attention'),
  rope_parameters: { rope_type: 'default', rope_theta: 10000 },
  tie_word_embeddings: false,
});
const contenders = {};
for (const [experts, chosen] of [
  [4, 4],
  [16, 4],
  [64, 4],
  [64, 64],
]) {
  contenders[`${chosen} of ${experts}`] = createModel(config(experts, chosen), { seed: 1 });
}
console.log(backend.description);
for (const threads of values.threads.split(',').map(Number)) {
  await setThreads(threads);
  const times = Object.fromEntries(Object.keys(contenders).map((name) => [name, []]));
  for (let round = 0; round <= Number(values.rounds); round++) {
    for (const [name, model] of Object.entries(contenders)) {
      const start = performance.now();
      for (let i = 0; i < CALLS; i++) model.forward([[(round * CALLS + i * 37) % VOCAB]]).dispose();
      if (round > 0) times[name].push((performance.now() - start) / CALLS);
    }
  }
  const base = summarize(times['4 of 4']).median;
  const cells = Object.entries(times).map(([name, list]) => {
    const { median, min } = summarize(list);
    return `${name} ${median.toFixed(3)} ms (min ${min.toFixed(3)}; ${(median / base).toFixed(2)}x)`;
  });
  console.log(`one token, ${LAYERS} layers of ${HIDDEN}, ${threads} threads: ${cells.join('  ')}`);
}
for (const model of Object.values(contenders)) model.dispose();
