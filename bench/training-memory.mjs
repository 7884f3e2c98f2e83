/**
 * The memory of a training loop without scopes: resident memory and V8's heap over 20,000 steps of the
 * 0.74M-parameter GPT, about ten minutes. It fails when the last step's resident memory is more than 32 MiB
 * above step 1,000's.
 *
 * V8's heap varies by some MiB with the times of its collections. The rest holds tensors, the kernels'
 * scratch memory and malloc.
 *
 * Usage: node bench/training-memory.mjs [--steps 20000] [--threads 1] [--draw]. It needs dist/.
 *   --draw   a new batch in every step instead of the same one
 */
import { parseArgs } from 'node:util';
import { setThreads, valueAndGrad } from 'gqa';
import {
  adamw,
  causalLmLoss,
  chain,
  clipByGlobalNorm,
  createModel,
  drawBatch,
  llamaConfig,
  Optimizer,
} from 'gqa/train';

const SIZES = { vocabSize: 65, hiddenSize: 128, numLayers: 4, numHeads: 4, numKeyValueHeads: 2 };
const [BLOCK, BATCH] = [64, 12];
/** Growth counts from this step on: code is compiled and buffers of every size are allocated by then. */
const FROM = 1000;
const MAX_GROWTH = 32 * 2 ** 20;

const { values } = parseArgs({
  options: {
    steps: { type: 'string', default: '20000' },
    threads: { type: 'string', default: '1' },
    draw: { type: 'boolean', default: false },
  },
});
const steps = Number(values.steps);
if (!(Number.isInteger(steps) && steps > FROM)) {
  throw new RangeError(`--steps: expected an integer above ${FROM}, got ${values.steps}`);
}
await setThreads(Number(values.threads));
const model = createModel(llamaConfig({ ...SIZES, maxPositionEmbeddings: BLOCK }), { seed: 1 });
const batch = Array.from({ length: BATCH }, (_, b) =>
  Array.from({ length: BLOCK + 1 }, (_, t) => ((b * 7919 + t * t * 31 + t * 7) % 4099) % SIZES.vocabSize),
);
const text = Int32Array.from({ length: 20_000 }, (_, i) => (i * i * 31 + i * 7) % SIZES.vocabSize);
const drawn = (index) =>
  drawBatch(text, { batchSize: BATCH, blockLength: BLOCK, seed: 1, stream: 'train', index });
const optimizer = new Optimizer(model, chain(clipByGlobalNorm(1), adamw({ learningRate: 1e-3 })));

let start = 0;
for (let step = 1; step <= steps; step++) {
  const rows = values.draw ? drawn(step) : batch;
  const [loss, gradients] = valueAndGrad((m) => causalLmLoss(m, rows))(model);
  const [value] = await loss.data();
  if (!Number.isFinite(value)) throw new Error(`step ${step}: the loss is ${value}`);
  optimizer.update(model, gradients);
  if (step !== 100 && step % FROM !== 0 && step !== steps) continue;
  const { rss, heapTotal: heap } = process.memoryUsage();
  if (step === FROM) start = rss;
  const [all, v8, rest] = [rss, heap, rss - heap].map((bytes) => (bytes / 2 ** 20).toFixed(1).padStart(6));
  console.log(`step ${String(step).padStart(6)}  resident ${all} MiB: V8's heap ${v8}, the rest ${rest}`);
  if (step === steps) {
    const growth = `${((rss - start) / 2 ** 20).toFixed(1)} MiB above step ${FROM}`;
    console.log(`node ${process.version}, ${values.threads} thread(s): ${growth}`);
    if (rss - start > MAX_GROWTH) process.exitCode = 1;
  }
}
