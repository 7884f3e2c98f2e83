/** Our `dotProductAttention` and `linear` on the backend of GQA_BACKEND as a contender. A whole call is timed. */
import {
  add,
  cast,
  dotProductAttention,
  getBackend,
  linear,
  setThreads,
  tensor,
  transpose,
  zeros,
} from 'gqa';
import { checkedOutputs, checkedRows, numbers, SEEDS } from './inputs.mjs';
import { sample, serve } from './serve.mjs';

let sets = [];
let next = 0;
let call;
let threads = 1;

function release() {
  for (const set of sets) for (const x of set) x.dispose();
  sets = [];
}

/** A copy in separate memory, cast to `dtype`. */
function copy(x, dtype) {
  const zero = zeros([]);
  const sum = add(x, zero);
  zero.dispose();
  if (dtype === 'f32') return sum;
  const out = cast(sum, dtype);
  sum.dispose();
  return out;
}

/** The inputs `[x, dtype]` in enough copies for `rotateBytes`, of which one copy reads `bytes`; x are freed. */
function copies(inputs, bytes, rotateBytes = 0) {
  sets = Array.from({ length: Math.max(1, Math.ceil(rotateBytes / bytes)) }, () =>
    inputs.map(([x, dtype]) => copy(x, dtype)),
  );
  for (const [x] of inputs) x.dispose();
  next = 0;
}

/** The values of one call. */
function once() {
  const out = call();
  const values = out.dataSync();
  out.dispose();
  return values;
}

function prepareAttention({ B, T, S, N, K, H, dtype, causal, layout = 'BTNH', rotateBytes }) {
  const make = (seed, tokens, heads) => {
    const x = tensor(numbers(seed, B * tokens * heads * H), { shape: [B, tokens, heads, H] });
    if (layout === 'BTNH') return x;
    const out = transpose(x, [0, 2, 1, 3]);
    x.dispose();
    return out;
  };
  const [query, key, value] = [make(SEEDS.query, T, N), make(SEEDS.key, S, K), make(SEEDS.value, S, K)];
  const bytes = 2 * B * S * K * H * (dtype === 'bf16' ? 2 : 4);
  copies(
    [
      [query, 'f32'],
      [key, dtype],
      [value, dtype],
    ],
    bytes,
    rotateBytes,
  );
  call = () => dotProductAttention(...sets[next++ % sets.length], { isCausal: causal, layout });
  const values = once();
  const at = layout === 'BTNH' ? (t, n) => t * N + n : (t, n) => n * T + t;
  return checkedRows({ T, N }).flatMap(([t, n]) => [...values.subarray(at(t, n) * H, (at(t, n) + 1) * H)]);
}

function prepareLinear({ rows, In, Out, dtype, rotateBytes }) {
  const x = tensor(numbers(SEEDS.x, rows * In), { shape: [rows, In] });
  const weight = tensor(numbers(SEEDS.weight, Out * In), { shape: [Out, In] });
  copies(
    [
      [x, 'f32'],
      [weight, dtype],
    ],
    Out * In * (dtype === 'bf16' ? 2 : 4),
    rotateBytes,
  );
  call = () => linear(...sets[next++ % sets.length]);
  const values = once();
  return checkedOutputs({ rows, Out }).map(([r, o]) => values[r * Out + o]);
}

await serve({
  about: () => ({
    description: `${getBackend().description}, matmul precision ${process.env.GQA_MATMUL_PRECISION}`,
  }),

  /** Makes the inputs. Returns the values to check. */
  async prepare(shape) {
    release();
    threads = shape.threads;
    await setThreads(threads);
    return { rows: shape.op === 'linear' ? prepareLinear(shape) : prepareAttention(shape) };
  },

  async setThreads(count) {
    threads = count;
    await setThreads(count);
  },

  sample: (milliseconds) => sample(() => call().dispose(), milliseconds, threads),

  release,
});
