/** Our model, in a worker of the page. */
import { getBackend, setBackend, setThreads } from '../../dist/index.js';
import { generate, loadModel } from '../../dist/models/index.js';
import { expose } from '../../dist/worker/index.js';

let model;

expose({
  async load(blob, threads, matmulPrecision) {
    await setBackend('wasm');
    await setThreads(threads);
    model = await loadModel(blob, { matmulPrecision });
    return getBackend().description;
  },

  /** Milliseconds of one pass over the tokens, with the last logits. */
  async prefill(tokens) {
    const cache = model.initCache({ batchSize: 1, maxLength: tokens.length });
    const start = performance.now();
    const logits = model.forward([tokens], { cache, logits: 'last' });
    await logits.data();
    const milliseconds = performance.now() - start;
    logits.dispose();
    cache.dispose();
    return milliseconds;
  },

  /** Milliseconds of `count` tokens after the first one. */
  async decode(prompt, count) {
    let start;
    for await (const _ of generate(model, prompt, { maxNewTokens: count + 1, stop: [] })) {
      start ??= performance.now();
    }
    return performance.now() - start;
  },
});
