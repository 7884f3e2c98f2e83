/** Our model as a contender, by the public functions `loadModel`, `forward` and `generate`. */
import { getBackend, setThreads } from 'gqa';
import { generate, loadModel } from 'gqa/models';
import { sample, serve, usage } from './serve.mjs';

let model;
let threads = 1;

/** Arbitrary tokens, the same for every contender. */
const prompt = (count) => Array.from({ length: count }, (_, i) => (i * 7919 + 13) % 40000);

await serve({
  about: () => ({
    description: `${getBackend().description}, matmul precision ${process.env.GQA_MATMUL_PRECISION}`,
  }),

  /** Loads the model and runs one token. Returns when each was done, in milliseconds since `spawned`. */
  async load({ path, spawned }) {
    model = await loadModel(path, { useMmap: !process.argv.includes('--no-mmap') });
    const loaded = Date.now();
    const logits = model.forward([[1]], { logits: 'last' });
    logits.dataSync();
    logits.dispose();
    return { loaded: loaded - spawned, firstForward: Date.now() - spawned };
  },

  async setThreads(count) {
    threads = count;
    await setThreads(count);
  },

  /** One pass over `count` tokens into an empty cache, and its last logits, of which the first 64 are returned. */
  async prefill({ count, milliseconds }) {
    const cache = model.initCache({ batchSize: 1, maxLength: count });
    const tokens = prompt(count);
    let values;
    const once = () => {
      cache.reset();
      const logits = model.forward([tokens], { cache, logits: 'last' });
      values = logits.dataSync().slice(0, 64);
      logits.dispose();
    };
    const result = await sample(once, milliseconds, threads);
    cache.dispose();
    return { ...result, logits: [...values] };
  },

  /** `count` greedy tokens after a prompt of 16. Returns the milliseconds of each token, and the tokens. */
  async decode({ count }) {
    globalThis.gc?.();
    const times = [];
    const tokens = [];
    const cpu = process.cpuUsage();
    const start = performance.now();
    let before;
    for await (const token of generate(model, prompt(16), { maxNewTokens: count + 1, stop: [] })) {
      const now = performance.now();
      if (before !== undefined) times.push(now - before);
      before = now;
      tokens.push(token);
    }
    return { times, tokens, ...usage(cpu, performance.now() - start, times.length, threads) };
  },

  memory: () => ({ rss: process.memoryUsage().rss, most: process.resourceUsage().maxRSS * 1024 }),
});
