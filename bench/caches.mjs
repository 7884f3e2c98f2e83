/**
 * The time of a decode step of attention by cache: storage types beside f32 at S4096, a window at 1,000 and
 * 100,000 tokens, paged caches beside a static one, and DeepSeek's latent rows at S4096. The contenders take
 * turns. Keys and values are rotated through more memory than the last-level cache holds, and a share in
 * percent is of the bandwidth of reading memory, measured in every round.
 *
 * Usage: node bench/caches.mjs [--threads 1,2] [--rounds 15] [--match TEXT]. `--match`: only tables whose title
 * contains the text, such as `K32`. It needs dist/ and the native build.
 */
import { parseArgs } from 'node:util';
import { BlockPool, PagedCache, StaticCache, WindowCache } from '../dist/cache/index.js';
import { setBackend, setThreads, tensor } from '../dist/index.js';
import { attend } from '../dist/ops/attend.js';
import { memoryBytes } from './machine.mjs';
import { Roofs } from './roofs.mjs';
import { median, summarize } from './stats.mjs';
import { percent } from './table.mjs';

const { values } = parseArgs({
  options: {
    threads: { type: 'string', default: '1,2' },
    rounds: { type: 'string', default: '15' },
    match: { type: 'string', default: '' },
  },
});
const backend = await setBackend('native');
const roofs = await Roofs.start();
const [N, H, CHUNK] = [32, 128, 512];
const ROTATED_BYTES = memoryBytes();
let state = 1;
const noise = (size) =>
  Float32Array.from({ length: size }, () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647 - 0.5;
  });

/** Writes S tokens; only keys when `value` is false (latent rows). */
function fill(cache, K, S, width = H, value = true) {
  const x = tensor(noise(CHUNK * K * width), { shape: [1, CHUNK, K, width] });
  for (let done = 0; done < S; done += CHUNK) {
    cache.reserve(Math.min(CHUNK, S - done));
    cache.write(0, x, value ? x : undefined);
    cache.commit();
  }
  x.dispose();
  return cache;
}

/** Enough copies of a cache to fill ROTATED_BYTES, at least 2. */
function copies(make, ...contents) {
  const first = fill(make(), ...contents);
  const count = Math.max(2, Math.ceil(ROTATED_BYTES / first.bytes));
  return [first, ...Array.from({ length: count - 1 }, () => fill(make(), ...contents))];
}

/**
 * `times`: name -> milliseconds of one call, the contenders taking turns; `roof`: in each round the
 * milliseconds that `flops` operations take at the FMA peak, or GB/s of reading where `flops` is undefined.
 */
async function measure(contenders, rounds, calls, threads, flops) {
  const times = Object.fromEntries(Object.keys(contenders).map((name) => [name, []]));
  const roof = [];
  const next = {};
  for (let round = 0; round <= rounds; round++) {
    for (const [name, { caches, query }] of Object.entries(contenders)) {
      const start = performance.now();
      for (let i = 0; i < calls; i++) {
        next[name] = ((next[name] ?? 0) + 1) % caches.length;
        attend(query, caches[next[name]].view(0)).dispose();
      }
      if (round > 0) times[name].push((performance.now() - start) / calls);
    }
    const rate = await roofs.measure({ kind: flops ? 'fma' : 'read', threads });
    if (rate && round > 0) roof.push(flops ? flops / rate / 1e6 : rate);
  }
  return { times, roof };
}

/**
 * @param make the contenders, name -> `{ query, caches, bytes }`; `bytes` that a call reads, where that limits
 *   the speed
 * @param flops operations of a call; given where they limit the speed
 */
async function report(title, make, base, calls, flops) {
  if (!title.includes(values.match)) return;
  const contenders = make();
  for (const threads of values.threads.split(',').map(Number)) {
    await setThreads(threads);
    const { times, roof } = await measure(contenders, Number(values.rounds), calls, threads, flops);
    const results = Object.entries(times).map(([name, list]) => [name, summarize(list)]);
    const { median: unit } = summarize(times[base]);
    const cells = results.map(([name, { median: middle, min }]) => {
      const parts = [`min ${min.toFixed(3)}`];
      const { bytes } = contenders[name];
      if (roof.length > 0 && flops) parts.push(`${(middle / median(roof)).toFixed(2)}x the FMA time`);
      else if (roof.length > 0 && bytes)
        parts.push(`${percent(bytes / middle / 1e6 / median(roof))} of the read bandwidth`);
      return `${name} ${middle.toFixed(3)} ms (${parts.join(', ')}; ${(unit / middle).toFixed(2)}x)`;
    });
    if (roofs.missing) cells.push(`no roof: ${roofs.missing}`);
    else cells.push(flops ? `FMA ${median(roof).toFixed(3)} ms` : `read ${median(roof).toFixed(1)} GB/s`);
    console.log(`${title}, ${threads} threads: ${cells.join('  ')}`);
  }
  for (const { caches } of Object.values(contenders)) for (const cache of caches) cache.dispose();
}

const query = tensor(noise(N * H), { shape: [1, 1, N, H] });
console.log(backend.description);
const common = (K) => ({ backend, layers: [{ numKeyValueHeads: K, headDim: H }] });
const caches = (make, ...contents) => {
  const all = copies(make, ...contents);
  return { query, caches: all, bytes: all[0].bytes };
};
for (const K of [32, 8, 1]) {
  const make = () =>
    Object.fromEntries(
      ['f32', 'bf16', 'f16', 'q8_0'].map((dtype) => [
        dtype,
        caches(() => new StaticCache({ ...common(K), maxLength: 4096, dtype }), K, 4096),
      ]),
    );
  await report(`decode S4096 K${K} by storage`, make, 'f32', 2);
}
const windowed = (S) => ({
  query,
  caches: copies(() => new WindowCache({ ...common(8), maxLength: S, window: 512 }), 8, S),
});
await report(
  'decode K8 window 512',
  () => ({ 'S 1,000': windowed(1000), 'S 100,000': windowed(100_000) }),
  'S 1,000',
  20,
);
for (const K of [32, 8, 1]) {
  const paged = (blockSize) => () => {
    const pool = new BlockPool({ ...common(K), numBlocks: 4096 / blockSize, blockSize });
    // Even blocks are freed first: neighbours in a row are then apart in memory, as in a pool in use.
    const odd = Array.from({ length: pool.numBlocks }, () => pool.take());
    for (const block of odd.filter((b) => b % 2 === 0)) pool.release(block);
    for (const block of odd.filter((b) => b % 2 === 1)) pool.release(block);
    return new PagedCache({ pool, batchSize: 1, maxLength: 4096, ownsPool: true });
  };
  const make = () => ({
    static: caches(() => new StaticCache({ ...common(K), maxLength: 4096 }), K, 4096),
    'paged by 32': caches(paged(32), K, 4096),
    'paged by 16': caches(paged(16), K, 4096),
  });
  await report(`decode S4096 K${K} f32 by pages`, make, 'static', 2);
}
{
  // DeepSeek V2 and V3: 128 heads share one row of 512 + 64 values as key and value, so operations limit the
  // speed.
  const [heads, latent, rope, S] = [128, 512, 64, 4096];
  const width = latent + rope;
  const layers = [{ numKeyValueHeads: 1, headDim: width, latentDim: latent }];
  const queries = tensor(noise(heads * width), { shape: [1, 1, heads, width] });
  const make = () =>
    Object.fromEntries(
      ['f32', 'bf16', 'f16', 'q8_0'].map((dtype) => {
        const cache = () => new StaticCache({ backend, layers, batchSize: 1, maxLength: S, dtype });
        return [dtype, { query: queries, caches: copies(cache, 1, S, width, false) }];
      }),
    );
  await report('decode S4096 N128 latent 512 + 64', make, 'f32', 2, 2 * heads * S * (width + latent));
}
await roofs.stop();
