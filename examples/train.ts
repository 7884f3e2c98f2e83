import { valueAndGrad } from 'gqa';
import { adamw, causalLmLoss, chain, clipByGlobalNorm, createModel, llamaConfig, Optimizer } from 'gqa/train';

// A Llama-form GPT with 6 query heads on 2 key/value heads, and one batch that it learns by heart.
const sizes = { vocabSize: 29, hiddenSize: 48, numLayers: 2, numHeads: 6, numKeyValueHeads: 2 };
const model = createModel(llamaConfig(sizes), { seed: 0 });
const batch = [0, 1, 2, 3].map((row) => Array.from({ length: 32 }, (_, i) => (i * (row + 3)) % 29));

const optimizer = new Optimizer(model, chain(clipByGlobalNorm(1), adamw({ learningRate: 1e-2 })));
for (let step = 0; step <= 60; step++) {
  const [loss, gradients] = valueAndGrad((m: typeof model) => causalLmLoss(m, batch))(model);
  if (step % 30 === 0) console.log(`step ${step}: loss ${(await loss.data())[0].toFixed(2)}`);
  optimizer.update(model, gradients); // in place; it frees the gradients
}
