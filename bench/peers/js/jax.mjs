/** jax-js's `nn.dotProductAttention`, compiled with `jit` for WebAssembly, as a contender. Needs Node 22. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { blockUntilReady, defaultDevice, init, jit, nn, numpy } from '@jax-js/jax';
import { checkedRows, numbers, SEEDS } from '../../inputs.mjs';
import { sample, serve } from '../../serve.mjs';

let inputs = [];
let attention;

function release() {
  for (const x of inputs) x.dispose();
  inputs = [];
}

async function call() {
  const out = attention(...inputs.map((x) => x.ref));
  await blockUntilReady(out);
  return out;
}

await serve({
  async about() {
    await init('wasm');
    defaultDevice('wasm');
    const entry = fileURLToPath(import.meta.resolve('@jax-js/jax'));
    const { version } = JSON.parse(readFileSync(new URL('../package.json', `file://${entry}`), 'utf8'));
    return { description: `jax-js ${version}, wasm, Node ${process.versions.node}` };
  },

  async prepare(shape) {
    release();
    const { B, T, S, N, K, H, causal, dtype } = shape;
    if (dtype !== 'f32') throw new Error(`jax-js: expected f32 on its WebAssembly device, got ${dtype}`);
    const make = (seed, dims) =>
      numpy
        .array(
          numbers(
            seed,
            dims.reduce((a, b) => a * b, 1),
          ),
        )
        .reshape(dims);
    inputs = [
      make(SEEDS.query, [B, T, N, H]),
      make(SEEDS.key, [B, S, K, H]),
      make(SEEDS.value, [B, S, K, H]),
    ];
    attention = jit((q, k, v) => nn.dotProductAttention(q, k, v, { isCausal: causal }));
    const values = await (await call()).data();
    return {
      rows: checkedRows(shape).flatMap(([t, n]) => [
        ...values.subarray((t * N + n) * H, (t * N + n + 1) * H),
      ]),
    };
  },

  setThreads() {},
  sample: (milliseconds) => sample(async () => (await call()).dispose(), milliseconds, 1),
  release,
});
