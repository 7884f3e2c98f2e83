/**
 * The loop of `generate` by hand: prefill a prompt, then feed one token at a time and take the likeliest.
 *
 * Run: npx --yes tsx examples/cache.ts <checkpoint>   (Node 22.18 and newer: node instead of npx --yes tsx)
 */
import { loadModel } from 'gqa/models';

const model = await loadModel(process.argv[2] ?? 'model.gguf');
const cache = model.initCache({ batchSize: 1, maxLength: 64, dtype: 'bf16' });
let tokens = model.tokenizer?.encode('The capital of France is') ?? [1, 2, 3];

for (let step = 0; step < 8; step++) {
  const logits = model.forward([tokens], { cache, logits: 'last' }); // [1, 1, V]
  const scores = await logits.data();
  logits.dispose();
  const best = scores.indexOf(Math.max(...scores));
  console.log(best, JSON.stringify(model.tokenizer?.decode([best])));
  tokens = [best];
}
console.log(`the cache holds ${cache.lengths[0]} tokens in ${cache.bytes} bytes`);
cache.dispose();
