/**
 * Whether a plain training loop's memory stays flat: resident memory, V8's heap and the rest after step 100, 1,000, … of the
 * 0.74M-parameter GPT, in fresh processes: as node comes, and with V8's young generation held at 1 MiB.
 *
 * V8 doubles its young generation, up to twice 16 MiB in Node 20, whenever as much has survived collections as it holds; what a
 * step has recorded survives those that fall into it, some 30 KB each time. That is no leak, and it is bounded. What is
 * ours, tensors, kernels' scratch and malloc, is in the rest.
 *
 * The last line is what V8's young generation saw after step 100: garbage a step, and what each collection found alive.
 * Usage: npm run build && node bench/training-memory.mjs [--steps 2000] [--threads 1] [--draw]: a new batch each step instead of one
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { GCProfiler } from 'node:v8';

const SIZES = { vocabSize: 65, hiddenSize: 128, numLayers: 4, numHeads: 4, numKeyValueHeads: 2 };
const [BLOCK, BATCH] = [64, 12];
/** Growth counts from here: by then code is compiled and buffers of every size are there. */
const FROM = 100;

const { values } = parseArgs({
  options: {
    steps: { type: 'string', default: '2000' },
    threads: { type: 'string', default: '1' },
    draw: { type: 'boolean', default: false },
    loop: { type: 'boolean', default: false },
  },
});
const steps = Number(values.steps);
if (!(Number.isInteger(steps) && steps > FROM)) {
  throw new RangeError(`--steps: expected a whole number above ${FROM}, got ${values.steps}`);
}
if (values.loop) await loop();
else for (const flags of [[], ['--max-semi-space-size=1']]) report(flags);

function report(flags) {
  const file = fileURLToPath(import.meta.url);
  const own = [
    '--loop',
    '--steps',
    values.steps,
    '--threads',
    values.threads,
    ...(values.draw ? ['--draw'] : []),
  ];
  const { samples, young } = JSON.parse(
    execFileSync(process.execPath, [...flags, file, ...own], { encoding: 'utf8' }),
  );
  console.log(['node', ...flags].join(' '));
  const start = samples.find(({ step }) => step === FROM);
  for (const sample of samples) {
    const cells = ['rss', 'heap', 'rest'].map((key) => {
      const growth = (100 * (sample[key] - start[key])) / start[key];
      const change = sample.step > FROM ? `${growth < 0 ? '' : '+'}${growth.toFixed(1)} %` : '';
      return `${key} ${(sample[key] / 2 ** 20).toFixed(1).padStart(6)} MiB ${change.padStart(9)}`;
    });
    console.log(`  step ${String(sample.step).padStart(6)}  ${cells.join('  ')}`);
  }
  const { collections, allocated, alive } = young;
  const perStep = (allocated / 1024 / (steps - FROM)).toFixed(0);
  const each = (alive / 1024 / collections).toFixed(0);
  console.log(`  ${perStep} KB of garbage a step; ${collections} collections found ${each} KB alive each`);
}

/** What V8's collections of the young generation saw: bytes allocated between them, and bytes that they kept or moved out. */
function youngGeneration(statistics) {
  const scavenges = statistics.filter(({ gcType }) => gcType === 'Scavenge');
  const used = ({ heapSpaceStatistics: spaces }, name) =>
    spaces.find(({ spaceName }) => spaceName === name).spaceUsedSize;
  let [allocated, alive, kept] = [0, 0, undefined];
  for (const { beforeGC, afterGC } of scavenges) {
    allocated += used(beforeGC, 'new_space') - (kept ?? 0);
    kept = used(afterGC, 'new_space');
    alive += kept + used(afterGC, 'old_space') - used(beforeGC, 'old_space');
  }
  return { collections: scavenges.length, allocated, alive };
}

/** The loop of the README, and what the process held after some of its steps, as JSON. */
async function loop() {
  const { setThreads, valueAndGrad } = await import('gqa');
  const train = await import('gqa/train');
  setThreads(Number(values.threads));
  const model = train.createModel(train.llamaConfig({ ...SIZES, maxPositionEmbeddings: BLOCK }), { seed: 1 });
  const batch = Array.from({ length: BATCH }, (_, b) =>
    Array.from({ length: BLOCK + 1 }, (_, t) => ((b * 7919 + t * t * 31 + t * 7) % 4099) % SIZES.vocabSize),
  );
  const optimizer = new train.Optimizer(
    model,
    train.chain(train.clipByGlobalNorm(1), train.adamw({ learningRate: 1e-3 })),
  );
  const text = Int32Array.from({ length: 20_000 }, (_, i) => (i * i * 31 + i * 7) % SIZES.vocabSize);
  const drawn = (index) =>
    train.drawBatch(text, { batchSize: BATCH, blockLength: BLOCK, seed: 1, stream: 'train', index });
  const profiler = new GCProfiler();
  const samples = [];
  const every = Math.max(FROM, Math.round(steps / 4 / FROM) * FROM);
  for (let step = 1; step <= steps; step++) {
    const rows = values.draw ? drawn(step) : batch;
    const [loss, gradients] = valueAndGrad((m) => train.causalLmLoss(m, rows))(model);
    const [value] = await loss.data();
    if (!Number.isFinite(value)) throw new Error(`step ${step}: the loss is ${value}`);
    optimizer.update(model, gradients);
    if (step === FROM) profiler.start();
    if (step === 1 || step === FROM || step % every === 0 || step === steps) {
      const { rss, heapTotal: heap } = process.memoryUsage();
      samples.push({ step, rss, heap, rest: rss - heap });
    }
  }
  console.log(JSON.stringify({ samples, young: youngGeneration(profiler.stop().statistics) }));
}
