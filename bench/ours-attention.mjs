/** Our `dotProductAttention` on the backend of GQA_BACKEND as a contender. The whole call is timed. */
import { add, cast, dotProductAttention, getBackend, setThreads, tensor, zeros } from 'gqa';
import { checkedRows, numbers, SEEDS } from './inputs.mjs';
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

await serve({
  about: () => ({ description: getBackend().description }),

  /** Makes the inputs, in enough copies for `rotateBytes` of keys and values. Returns the rows to check. */
  async prepare(shape) {
    release();
    const { B, T, S, N, K, H, dtype, causal, rotateBytes = 0 } = shape;
    threads = shape.threads;
    await setThreads(threads);
    const make = (seed, dims, size) => tensor(numbers(seed, size), { shape: dims });
    const query = make(SEEDS.query, [B, T, N, H], B * T * N * H);
    const key = make(SEEDS.key, [B, S, K, H], B * S * K * H);
    const value = make(SEEDS.value, [B, S, K, H], B * S * K * H);
    const bytes = 2 * B * S * K * H * (dtype === 'bf16' ? 2 : 4);
    sets = Array.from({ length: Math.max(1, Math.ceil(rotateBytes / bytes)) }, () => [
      copy(query, 'f32'),
      copy(key, dtype),
      copy(value, dtype),
    ]);
    for (const x of [query, key, value]) x.dispose();
    call = () => dotProductAttention(...sets[next++ % sets.length], { isCausal: causal });
    next = 0;
    const out = call();
    const values = out.dataSync();
    out.dispose();
    return {
      rows: checkedRows(shape).flatMap(([t, n]) => [
        ...values.subarray((t * N + n) * H, (t * N + n + 1) * H),
      ]),
    };
  },

  async setThreads(count) {
    threads = count;
    await setThreads(count);
  },

  sample: (milliseconds) => sample(() => call().dispose(), milliseconds, threads),

  release,
});
