/** llama.cpp's CPU build (node-llama-cpp) as a contender, with the commands of bench/ours-model.mjs. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { getLlama, LlamaLogLevel } from 'node-llama-cpp';
import { sample, serve, usage } from '../../serve.mjs';

let llama;
let model;
let context;
let sequence;
let threads = 1;

const prompt = (count) => Array.from({ length: count }, (_, i) => (i * 7919 + 13) % 40000);

async function open(count) {
  await context?.dispose();
  threads = count;
  context = await model.createContext({
    contextSize: 1024,
    batchSize: 512,
    threads: { ideal: count, min: count },
  });
  sequence = context.getSequence();
}

await serve({
  async about() {
    const entry = fileURLToPath(import.meta.resolve('node-llama-cpp'));
    const { version } = JSON.parse(readFileSync(new URL('../package.json', `file://${entry}`), 'utf8'));
    return { description: `node-llama-cpp ${version}` };
  },

  async load({ path, spawned }) {
    llama = await getLlama({ gpu: false, build: 'never', logLevel: LlamaLogLevel.error, maxThreads: 0 });
    model = await llama.loadModel({ modelPath: path, useMmap: !process.argv.includes('--no-mmap') });
    await open(threads);
    const loaded = Date.now();
    await sequence.evaluateWithoutGeneratingNewTokens([1]);
    return { loaded: loaded - spawned, firstForward: Date.now() - spawned };
  },

  setThreads: open,

  async prefill({ count, milliseconds }) {
    const tokens = prompt(count);
    const once = async () => {
      await sequence.clearHistory();
      await sequence.evaluateWithoutGeneratingNewTokens(tokens);
    };
    return sample(once, milliseconds, threads);
  },

  async decode({ count }) {
    await sequence.clearHistory();
    const times = [];
    const tokens = [];
    const cpu = process.cpuUsage();
    const start = performance.now();
    let before;
    for await (const token of sequence.evaluate(prompt(16), { temperature: 0, yieldEogToken: true })) {
      const now = performance.now();
      if (before !== undefined) times.push(now - before);
      before = now;
      tokens.push(token);
      if (tokens.length > count) break;
    }
    return { times, tokens, ...usage(cpu, performance.now() - start, times.length, threads) };
  },

  memory: () => ({ rss: process.memoryUsage().rss, most: process.resourceUsage().maxRSS * 1024 }),
});
