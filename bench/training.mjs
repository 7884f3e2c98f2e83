/**
 * Training beside PyTorch with fused AdamW, from the same weights, tokens and recipe; and attention forward
 * plus backward beside scaled_dot_product_attention and autograd. The losses must be equal (within 2 % with
 * bf16 operands); then the programs take turns. Each row has new processes, so that the peak memory is the
 * row's. The column cpu is processor time per run, to be compared where other programs run.
 *
 * Usage: node bench/training.mjs [--threads 1,2] [--rows small,large,…] [--rounds 5]
 *   [--contenders 'gqa,torch,torch compile,gqa bfloat16,torch autocast,torch compile autocast']
 * It needs dist/. The default contenders are all; a ratio is to the first one before it whose name begins with
 * gqa. GQA_BENCH_PYTHON names a Python with torch and safetensors; torch.compile needs a C++ compiler.
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
import { LEARNING_RATE, TRAINING_ROWS, trainingStep } from './training-step.mjs';

const ROWS = {
  ...TRAINING_ROWS,
  'attention T1024 H64': { T: 1024, H: 64, N: 32, K: 8, runs: 3 },
  'attention T2048 H128': { T: 2048, H: 128, N: 32, K: 8, runs: 1 },
};

/** name -> what starts it: the precision of our products, or the arguments of peers/torch/train.py. */
const CONTENDERS = {
  gqa: { precision: 'highest' },
  torch: { how: [] },
  'torch compile': { how: ['compile'] },
  'gqa bfloat16': { precision: 'bfloat16' },
  'torch autocast': { how: ['autocast'] },
  'torch compile autocast': { how: ['compile', 'autocast'] },
};

if (process.argv[2] === '--serve') await serveOurs();
else await main();

async function main() {
  const { values } = parseArgs({
    options: {
      threads: { type: 'string', default: '1,2' },
      rows: { type: 'string', default: Object.keys(ROWS).join(',') },
      rounds: { type: 'string', default: '5' },
      contenders: { type: 'string', default: Object.keys(CONTENDERS).join(',') },
    },
  });
  console.log(JSON.stringify(describeMachine()));
  const python = process.env.GQA_BENCH_PYTHON ?? 'python3';
  const here = (path) => fileURLToPath(new URL(path, import.meta.url));
  const folder = mkdtempSync(join(tmpdir(), 'gqa-bench-'));
  try {
    for (const name of values.rows.split(',')) {
      for (const threads of values.threads.split(',').map(Number)) {
        const contenders = values.contenders.split(',').map((contender) => {
          const { precision, how } = CONTENDERS[contender];
          return precision
            ? new Contender(contender, [process.execPath, here('training.mjs'), '--serve', folder], {
                env: { GQA_MATMUL_PRECISION: precision },
              })
            : new Contender(contender, [python, here('peers/torch/train.py'), ...how]);
        });
        try {
          await runRow(name, threads, Number(values.rounds), contenders);
        } finally {
          await Promise.all(contenders.map((contender) => contender.stop()));
        }
      }
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function runRow(name, threads, rounds, contenders) {
  const row = ROWS[name];
  const ready = [];
  // Of the first contender, which is ours: the weights and tokens of all.
  let own = {};
  for (const contender of contenders) {
    try {
      const prepared = await contender.ask('prepare', { ...row, threads, ...own });
      if (ready.length === 0) own = prepared;
      const most = /bfloat16|autocast/.test(contender.name) ? 0.02 * own.losses[0] : 1e-3;
      for (const [i, loss] of prepared.losses.entries())
        if (row.sizes && !(Math.abs(loss - own.losses[i]) <= most))
          throw new Error(`expected losses ${own.losses}, got ${prepared.losses}`);
      ready.push({ contender, samples: [] });
    } catch (error) {
      console.log(`${name}, ${threads} threads: skipped: ${contender.name}: ${error.message}`);
    }
  }
  // The first round does not count: V8 compiles in it, and memory is used for the first time.
  for (let round = -1; round < rounds; round++)
    for (const { contender, samples } of ready) {
      const sample = await contender.ask('sample', row.runs);
      if (round >= 0) samples.push(sample);
    }
  const tokens = row.sizes ? row.batch * row.block : undefined;
  const flops = row.sizes
    ? own.flops
    : // Two products forward and five backward; the causal mask leaves half of each.
      7 * row.N * row.T * row.T * row.H;
  let subject;
  for (const { contender, samples } of ready) {
    const times = samples.flatMap((sample) => sample.times);
    const line = {
      median: median(times),
      min: Math.min(...times),
      cpu: Math.min(...samples.map((sample) => sample.cpu)),
    };
    const perSecond = (time) => Math.round((1000 * tokens) / time);
    const ratio = (key) => `${(line[key] / subject[key]).toFixed(2)}x`;
    const parts = [
      `${name}, ${threads} threads`.padEnd(30),
      contender.name.padEnd(22),
      `median ${line.median.toFixed(1)} ms${tokens ? ` (${perSecond(line.median)} tokens/s)` : ''}`,
      `min ${line.min.toFixed(1)} ms`,
      `cpu ${line.cpu.toFixed(1)} ms`,
      `${(flops / line.min / 1e6).toFixed(1)} GFLOP/s`,
      `peak ${samples.at(-1).peakMiB.toFixed(0)} MiB`,
    ];
    if (contender.name.startsWith('gqa')) {
      if (subject) parts.push(`${(subject.median / line.median).toFixed(2)}x as fast as ${subject.name}`);
      subject = { ...line, name: contender.name };
    } else if (subject)
      parts.push(
        `${subject.name} is faster: median ${ratio('median')}, min ${ratio('min')}, cpu ${ratio('cpu')}`,
      );
    console.log(parts.join('  '));
  }
}

/** This library as the contender. */
async function serveOurs() {
  const gqa = await import('../dist/index.js');
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
      const { config, model, tokens, step } = trainingStep(row);
      once = step;
      const weights = join(process.argv[3], 'model.safetensors');
      const tensors = [...model.parameters()].map(([path, { value }]) => [path, value]);
      await writeSafetensors(weights, Object.fromEntries(tensors));
      // Per token 6 per matrix weight, the tied head included, and 12 T D per layer for attention, halved by
      // the mask.
      const { hiddenSize: D, numLayers } = row.sizes;
      const perToken = 6 * model.parameterCount + 6 * numLayers * row.block * D;
      const flops = perToken * row.batch * row.block;
      return { losses: [once(), once(), once()], config, weights, tokens, rate: LEARNING_RATE, flops };
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
