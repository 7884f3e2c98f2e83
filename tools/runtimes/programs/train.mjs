// Trains a small model for three steps, and generates with it, on the backend that its argument names.
import { getBackend, setBackend, setThreads, valueAndGrad } from 'gqa';
import { generate } from 'gqa/models';
import { adamw, causalLmLoss, createModel, drawBatch, llamaConfig, Optimizer } from 'gqa/train';

if (process.argv[2]) await setBackend(process.argv[2]);
await setThreads(2);
const sizes = { hiddenSize: 16, numLayers: 1, numHeads: 4, numKeyValueHeads: 2 };
const model = createModel(llamaConfig({ vocabSize: 11, ...sizes }), { seed: 0 });
const optimizer = new Optimizer(model, adamw({ learningRate: 0.03 }));
const text = Int32Array.from({ length: 200 }, (_, i) => (i * i) % 11);
const losses = [];
for (let index = 0; index < 3; index++) {
  const batch = drawBatch(text, { batchSize: 2, blockLength: 16, seed: 0, stream: 'train', index });
  const [loss, gradients] = valueAndGrad((m) => causalLmLoss(m, batch))(model);
  losses.push((await loss.data())[0].toFixed(4));
  optimizer.update(model, gradients);
}
const tokens = [];
for await (const token of generate(model, [1, 4, 9], { maxNewTokens: 4, temperature: 0 })) tokens.push(token);
console.log(JSON.stringify({ backend: getBackend().name, losses, tokens }));
