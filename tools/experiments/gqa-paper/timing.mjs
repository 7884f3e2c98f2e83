/**
 * Time per decoded token against the number of key/value heads, with a cache long enough that reading it is what takes the time.
 * Weights and the cached tokens are random: that does not change the time. One thread, processor time, which other processes on the machine touch less than
 * the clock; the heads take turns, and the least of all rounds counts.
 */

/** Decoders whose cache is far larger than their weights and than the processor's caches. */
export const DECODERS = {
  small: { name: 'the small GPT', numLayers: 4, hiddenSize: 144, numHeads: 6, groups: [1, 2, 3, 6] },
  wide: { name: '16 heads of 64', numLayers: 2, hiddenSize: 1024, numHeads: 16, groups: [1, 2, 4, 8, 16] },
};
/** Tokens in the cache. */
const LENGTH = 32_768;
const CHUNK = 512;
/** Tokens per round. */
const TOKENS = 8;

/** @returns rows `{ decoder, K, milliseconds }` */
export function timeDecoding({ createModel, llamaConfig, normal, key }, rounds = 12) {
  const rows = [];
  for (const [decoder, { numLayers, hiddenSize, numHeads, groups }] of Object.entries(DECODERS)) {
    const open = groups.map((K) => {
      const sizes = { vocabSize: 128, hiddenSize, numLayers, numHeads, numKeyValueHeads: K };
      const model = createModel(llamaConfig({ ...sizes, maxPositionEmbeddings: 2 * LENGTH }));
      const cache = model.initCache({ batchSize: 1, maxLength: LENGTH + TOKENS * rounds + 1 });
      fill(cache, normal(key(K), [1, CHUNK, K, hiddenSize / numHeads]));
      step(model, cache);
      return { K, model, cache, best: Number.POSITIVE_INFINITY };
    });
    for (let round = 0; round < rounds; round++) {
      for (const one of open) {
        const before = process.cpuUsage();
        for (let i = 0; i < TOKENS; i++) step(one.model, one.cache);
        const { user, system } = process.cpuUsage(before);
        one.best = Math.min(one.best, (user + system) / 1e3 / TOKENS);
      }
    }
    for (const { K, model, cache, best } of open) {
      rows.push({ decoder, K, milliseconds: Number(best.toFixed(3)) });
      process.stderr.write(`${decoder}, K=${K}: ${best.toFixed(3)} ms per token\n`);
      cache.dispose();
      model.dispose();
    }
  }
  return rows;
}

/** Every layer's cache, with the same keys and values over and over. */
function fill(cache, tokens) {
  for (let at = 0; at < LENGTH; at += CHUNK) {
    cache.reserve(CHUNK);
    for (let layer = 0; layer < cache.numLayers; layer++) cache.write(layer, tokens, tokens);
    cache.commit();
  }
  tokens.dispose();
}

function step(model, cache) {
  model.forward([[7]], { cache, logits: 'last' }).dispose();
}
