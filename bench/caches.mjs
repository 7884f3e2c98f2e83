/**
 * The time of a decode step of attention by cache: storage types beside f32 at S4096, a window at 1,000 and
 * 100,000 tokens, paged caches beside a static one, and DeepSeek's latent rows at S4096. The contenders take
 * turns. Keys and values are rotated through more memory than the last-level cache holds.
 *
 * Usage: node bench/caches.mjs [--threads 1,2] [--rounds 15]. It needs dist/ and the native build.
 */
import { parseArgs } from 'node:util';
import { BlockPool, PagedCache, StaticCache, WindowCache } from '../dist/cache/index.js';
import { setBackend, setThreads, tensor } from '../dist/index.js';
import { attend } from '../dist/ops/attend.js';
import { lastLevelCache } from './machine.mjs';
import { Roofs } from './roofs.mjs';
import { summarize } from './stats.mjs';

const { values } = parseArgs({
  options: { threads: { type: 'string', default: '1,2' }, rounds: { type: 'string', default: '15' } },
});
const backend = await setBackend('native');
const roofs = new Roofs(0);
const [N, H, CHUNK] = [32, 128, 512];
const ROTATED_BYTES = Math.min(2 * lastLevelCache(), 1 << 30);
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
 * name -> milliseconds of one call, the contenders taking turns. With `flops` and a measured roof also `FMA`
 * -> the milliseconds that so many operations take at the FMA peak.
 */
async function measure(contenders, rounds, calls, threads, flops) {
  const times = Object.fromEntries(Object.keys(contenders).map((name) => [name, []]));
  const atRoof = [];
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
    const roof = flops && (await roofs.measure({ kind: 'fma', threads }));
    if (roof && round > 0) atRoof.push(flops / roof / 1e6);
  }
  if (atRoof.length > 0) times.FMA = atRoof;
  return Object.fromEntries(Object.entries(times).map(([name, list]) => [name, summarize(list)]));
}

/** @param flops operations of a call; given where they, not the bytes read, limit the speed */
async function report(title, contenders, base, calls, flops) {
  for (const threads of values.threads.split(',').map(Number)) {
    await setThreads(threads);
    const { FMA, ...results } = await measure(contenders, Number(values.rounds), calls, threads, flops);
    const cells = Object.entries(results).map(([name, { median, min }]) => {
      const ratio = results[base].median / median;
      const roof = FMA ? `, ${(median / FMA.median).toFixed(2)}x the FMA time` : '';
      return `${name} ${median.toFixed(3)} ms (min ${min.toFixed(3)}${roof}; ${ratio.toFixed(2)}x)`;
    });
    if (FMA) cells.push(`FMA ${FMA.median.toFixed(3)} ms (min ${FMA.min.toFixed(3)})`);
    else if (flops) cells.push(`no FMA time: ${roofs.missing}`);
    console.log(`${title}, ${threads} threads: ${cells.join('  ')}`);
  }
  for (const { caches } of Object.values(contenders)) for (const cache of caches) cache.dispose();
}

const query = tensor(noise(N * H), { shape: [1, 1, N, H] });
console.log(backend.description);
const common = (K) => ({ backend, layers: [{ numKeyValueHeads: K, headDim: H }], batchSize: 1 });
for (const K of [32, 8]) {
  const contenders = {};
  for (const dtype of ['f32', 'bf16', 'f16', 'q8_0']) {
    contenders[dtype] = {
      query,
      caches: copies(() => new StaticCache({ ...common(K), maxLength: 4096, dtype }), K, 4096),
    };
  }
  await report(`decode S4096 K${K} by storage`, contenders, 'f32', 2);
}
const windowed = (S) => ({
  query,
  caches: copies(() => new WindowCache({ ...common(8), maxLength: S, window: 512 }), 8, S),
});
await report(
  'decode K8 window 512',
  { 'S 1,000': windowed(1000), 'S 100,000': windowed(100_000) },
  'S 1,000',
  20,
);
for (const K of [32, 8]) {
  const paged = (blockSize) => () => {
    const pool = new BlockPool({ ...common(K), numBlocks: 4096 / blockSize, blockSize });
    // Even blocks are freed first: neighbours in a row are then apart in memory, as in a pool in use.
    const odd = Array.from({ length: pool.numBlocks }, () => pool.take());
    for (const block of odd.filter((b) => b % 2 === 0)) pool.release(block);
    for (const block of odd.filter((b) => b % 2 === 1)) pool.release(block);
    return new PagedCache({ pool, batchSize: 1, maxLength: 4096, ownsPool: true });
  };
  const contenders = {
    static: { query, caches: copies(() => new StaticCache({ ...common(K), maxLength: 4096 }), K, 4096) },
    'paged by 32': { query, caches: copies(paged(32), K, 4096) },
    'paged by 16': { query, caches: copies(paged(16), K, 4096) },
  };
  await report(`decode S4096 K${K} f32 by pages`, contenders, 'static', 2);
}
{
  // DeepSeek V2 and V3: 128 heads share one row of 512 + 64 values as key and value, so operations limit the
  // speed.
  const [heads, latent, rope, S] = [128, 512, 64, 4096];
  const width = latent + rope;
  const layers = [{ numKeyValueHeads: 1, headDim: width, latentDim: latent }];
  const queries = tensor(noise(heads * width), { shape: [1, 1, heads, width] });
  const contenders = {};
  for (const dtype of ['f32', 'bf16', 'f16', 'q8_0']) {
    const make = () => new StaticCache({ backend, layers, batchSize: 1, maxLength: S, dtype });
    contenders[dtype] = { query: queries, caches: copies(make, 1, S, width, false) };
  }
  await report('decode S4096 N128 latent 512 + 64', contenders, 'f32', 2, 2 * heads * S * (width + latent));
}
await roofs.stop();
