/**
 * Training beside PyTorch eager with fused AdamW, from the same weights, tokens and recipe; and attention
 * forward plus backward beside scaled_dot_product_attention and autograd. The losses must be equal; then the
 * two programs take turns. Each row has new processes, so that the peak memory is the row's. The column cpu
 * is processor time per run, to be compared where other programs run.
 *
 * Usage: node bench/training.mjs [--threads 1,2] [--rows small,large,…] [--rounds 5]. It needs dist/.
 * GQA_BENCH_PYTHON names a Python with torch and safetensors.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Contender } from './contender.mjs';
import { describeMachine } from './machine.mjs';
import { serve } from './serve.mjs';
import { median } from './stats.mjs';

const RATE = 1e-3;
const sizes = (hiddenSize, numLayers, numHeads, numKeyValueHeads, block) => ({
  ...{ vocabSize: 65, hiddenSize, numLayers, numHeads, numKeyValueHeads },
  maxPositionEmbeddings: block,
});
const ROWS = {
  small: { sizes: sizes(128, 4, 4, 2, 64), batch: 12, block: 64, runs: 50 },
  large: { sizes: sizes(384, 6, 6, 2, 256), batch: 16, block: 256, runs: 2 },
  'attention T1024 H64': { T: 1024, H: 64, N: 32, K: 8, runs: 3 },
  'attention T2048 H128': { T: 2048, H: 128, N: 32, K: 8, runs: 1 },
};

if (process.argv[2] === '--serve') await serveOurs();
else await main();

async function main() {
  const { values } = parseArgs({
    options: {
      threads: { type: 'string', default: '1,2' },
      rows: { type: 'string', default: Object.keys(ROWS).join(',') },
      rounds: { type: 'string', default: '5' },
    },
  });
  console.log(JSON.stringify(describeMachine()));
  const python = process.env.GQA_BENCH_PYTHON ?? 'python3';
  const here = (path) => fileURLToPath(new URL(path, import.meta.url));
  const folder = mkdtempSync(join(tmpdir(), 'gqa-bench-'));
  try {
    for (const name of values.rows.split(',')) {
      for (const threads of values.threads.split(',').map(Number)) {
        const { gqa, torch } = {
          gqa: new Contender('gqa', [process.execPath, here('training.mjs'), '--serve', folder]),
          torch: new Contender('torch', [python, here('peers/torch/train.py')]),
        };
        try {
          await runRow(name, threads, Number(values.rounds), gqa, torch);
        } finally {
          await Promise.all([gqa.stop(), torch.stop()]);
        }
      }
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function runRow(name, threads, rounds, gqa, torch) {
  const row = ROWS[name];
  const own = await gqa.ask('prepare', { ...row, threads });
  const peer = await torch.ask('prepare', { ...row, threads, ...own });
  for (const [i, loss] of row.sizes ? peer.losses.entries() : []) {
    if (!(Math.abs(loss - own.losses[i]) <= 1e-3))
      throw new Error(`${name}: expected equal losses, got ${own.losses} and ${peer.losses}`);
  }
  const results = { gqa: [], torch: [] };
  // The first round does not count: V8 compiles in it, and memory is used for the first time.
  for (let round = -1; round < rounds; round++) {
    const samples = [await gqa.ask('sample', row.runs), await torch.ask('sample', row.runs)];
    if (round < 0) continue;
    results.gqa.push(samples[0]);
    results.torch.push(samples[1]);
  }
  const tokens = row.sizes ? row.batch * row.block : undefined;
  const flops = row.sizes
    ? own.flops
    : // Two products forward and five backward; the causal mask leaves half of each.
      7 * row.N * row.T * row.T * row.H;
  const line = {};
  for (const [contender, samples] of Object.entries(results)) {
    const times = samples.flatMap((sample) => sample.times);
    const cpu = Math.min(...samples.map((sample) => sample.cpu));
    line[contender] = { median: median(times), min: Math.min(...times), cpu, peak: samples.at(-1).peakMiB };
    const { median: middle, min, peak } = line[contender];
    console.log(
      `${name.padEnd(21)} ${threads} threads  ${contender.padEnd(6)} median ${middle.toFixed(1)} ms  min ${min.toFixed(1)} ms  cpu ${cpu.toFixed(1)} ms  ` +
        `${(flops / min / 1e6).toFixed(1)} GFLOP/s${tokens ? `  ${Math.round((1000 * tokens) / min)} tokens/s` : ''}  peak ${peak.toFixed(0)} MiB`,
    );
  }
  const ratio = (key) => (line.torch[key] / line.gqa[key]).toFixed(2);
  console.log(
    `${name.padEnd(21)} ${threads} threads  gqa is faster: median ${ratio('median')}x, min ${ratio('min')}x, cpu ${ratio('cpu')}x`,
  );
}

/** This library as the contender. */
async function serveOurs() {
  const gqa = await import('../dist/index.js');
  const train = await import('../dist/train/index.js');
  const { writeSafetensors } = await import('../dist/checkpoint/index.js');
  let once;
  await serve({
    async prepare(row) {
      await gqa.setThreads(row.threads);
      once = undefined;
      if (row.T) {
        once = attention(gqa, row);
        once();
        return { losses: [] };
      }
      const config = train.llamaConfig(row.sizes);
      const model = train.createModel(config, { seed: 1 });
      const weights = join(process.argv[3], 'model.safetensors');
      const tensors = [...model.parameters()].map(([path, { value }]) => [path, value]);
      await writeSafetensors(weights, Object.fromEntries(tensors));
      const tokens = Array.from({ length: row.batch }, (_, b) =>
        Array.from(
          { length: row.block + 1 },
          (_, t) => ((b * 7919 + t * t * 31 + t * 7) % 4099) % row.sizes.vocabSize,
        ),
      );
      const optimizer = new train.Optimizer(
        model,
        train.chain(
          train.clipByGlobalNorm(1),
          train.adamw({ learningRate: RATE, b1: 0.9, b2: 0.99, weightDecay: 0.1 }),
        ),
      );
      once = () => {
        const [loss, gradients] = gqa.valueAndGrad((m) => train.causalLmLoss(m, tokens))(model);
        const value = loss.dataSync()[0];
        loss.dispose();
        optimizer.update(model, gradients);
        return value;
      };
      // Per token 6 per matrix weight, the tied head included, and 12 T D per layer for attention, halved by
      // the mask.
      const { hiddenSize: D, numLayers } = row.sizes;
      const perToken = 6 * model.parameterCount + 6 * numLayers * row.block * D;
      const flops = perToken * row.batch * row.block;
      return { losses: [once(), once(), once()], config, weights, tokens, rate: RATE, flops };
    },
    sample(runs) {
      const cpu = process.cpuUsage();
      const times = [];
      for (let i = 0; i < runs; i++) {
        const start = performance.now();
        once();
        times.push(performance.now() - start);
      }
      const { user, system } = process.cpuUsage(cpu);
      return { times, cpu: (user + system) / 1000 / runs, peakMiB: process.resourceUsage().maxRSS / 1024 };
    },
  });
}

/** The sum of attention's output times weights, and its gradients by all three inputs. */
function attention(gqa, { T, H, N, K }) {
  const make = (heads) =>
    gqa.tensor(
      Float32Array.from({ length: T * heads * H }, (_, i) => Math.sin(i * 12.9898) * 1.7),
      {
        shape: [1, T, heads, H],
      },
    );
  const [query, key, value, upstream] = [make(N), make(K), make(K), make(N)];
  const loss = (q, k, v) => gqa.sum(gqa.mul(gqa.dotProductAttention(q, k, v, { isCausal: true }), upstream));
  return () => {
    const [value_, gradients] = gqa.valueAndGrad(loss, [0, 1, 2])(query, key, value);
    for (const x of [value_, ...gradients]) x.dispose();
  };
}
