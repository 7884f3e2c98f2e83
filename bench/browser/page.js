/**
 * The page of the bench: `contenders` by name, each with the same three functions. All load the same bytes,
 * decode 512 tokens in one call (prefill), and write 128 tokens greedily (decode).
 */
import { Wllama as Wllama3 } from '@wllama/wllama';
import { Wllama as Wllama2 } from 'wllama-2';
import { connect } from '../../dist/worker/index.js';

const CONTEXT = 1024;
/** Arbitrary tokens, the same for all that take tokens. */
const promptOf = (count) => Array.from({ length: count }, (_, i) => (i * 7919 + 13) % 40000);
const perSecond = (count, milliseconds) => (1000 * count) / milliseconds;

async function blobOf(url) {
  return (await fetch(url)).blob();
}

function ours(matmulPrecision) {
  let worker;
  let engine;
  return {
    async load(url, threads) {
      worker = new Worker('./worker.js', { type: 'module' });
      engine = connect(worker);
      return engine.load(await blobOf(url), threads, matmulPrecision);
    },
    prefill: async (count) => perSecond(count, await engine.prefill(promptOf(count))),
    decode: async (count) => perSecond(count, await engine.decode(promptOf(16), count)),
    close: async () => worker.terminate(),
  };
}

/** llama.cpp's server inside: it times itself. Its prompt is a text, here of one token a word. */
function wllama3() {
  let engine;
  const complete = async (words, max_tokens) => {
    const options = { temperature: 0, cache_prompt: false, ignore_eos: true };
    const prompt = ' time'.repeat(words);
    const { timings } = await engine.createCompletion({ prompt, max_tokens, ...options });
    return timings;
  };
  return {
    async load(url, threads) {
      engine = new Wllama3({ default: './wllama-3.wasm' });
      const options = { n_threads: threads, n_ctx: CONTEXT, n_batch: 512, n_gpu_layers: 0 };
      await engine.loadModel([await blobOf(url)], options);
      return `wllama 3.13.0, ${threads} threads`;
    },
    async prefill(count) {
      const timings = await complete(count, 1);
      if (Math.abs(timings.prompt_n - count) > 2) throw new Error(`prompt of ${timings.prompt_n} tokens`);
      return timings.prompt_per_second;
    },
    decode: async (count) => (await complete(16, count)).predicted_per_second,
    close: () => engine.exit(),
  };
}

function wllama2() {
  let engine;
  return {
    async load(url, threads) {
      engine = new Wllama2({
        'single-thread/wllama.wasm': './wllama-2-single.wasm',
        'multi-thread/wllama.wasm': './wllama-2-multi.wasm',
      });
      await engine.loadModel([await blobOf(url)], { n_threads: threads, n_ctx: CONTEXT, n_batch: 512 });
      return `wllama 2.4.0, ${threads} threads`;
    },
    async prefill(count) {
      await engine.kvClear();
      const start = performance.now();
      await engine.decode(promptOf(count), {});
      return perSecond(count, performance.now() - start);
    },
    async decode(count) {
      await engine.kvClear();
      await engine.samplingInit({ temp: 0 });
      await engine.decode(promptOf(16), {});
      const start = performance.now();
      for (let i = 0; i < count; i++) {
        const { token } = await engine.samplingSample();
        await engine.samplingAccept([token]);
        await engine.decode([token], {});
      }
      return perSecond(count, performance.now() - start);
    },
    close: () => engine.exit(),
  };
}

globalThis.contenders = {
  gqa: ours('highest'),
  'gqa int8': ours('int8'),
  'wllama 3.13.0': wllama3(),
  'wllama 2.4.0': wllama2(),
};
