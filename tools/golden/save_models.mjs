/**
 * Saves a model of every tiny folder and of some GGUF files by `saveModel`, for check_saved_models.py:
 * `node save_models.mjs GOLDEN OUT [GGUF…]`. Beside each folder lies NAME.json with tokens, logits and a text's
 * ids. The package must be built.
 */
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { characterTokenizer, loadModel, saveModel } from '../../dist/models/index.js';
import { createModel, llamaConfig, loadTrainableModel } from '../../dist/train/index.js';

const [golden, out, ...files] = process.argv.slice(2);
mkdirSync(out, { recursive: true });
const TEXT = 'Call me Ishmael. Some years ago, never mind how long precisely.';
const tokens = [1, 7, 3, 20, 11, 5, 2, 9, 0, 6, 13, 22];

async function save(name, model, options) {
  await saveModel(join(out, name), model, options);
  const logits = Array.from(model.forward([tokens]).dataSync());
  const tokenizer = options?.tokenizer ?? model.tokenizer;
  const ids = tokenizer?.encode(TEXT);
  writeFileSync(join(out, `${name}.json`), JSON.stringify({ tokens, logits, text: TEXT, ids }));
  model.dispose();
}

for (const family of readdirSync(golden).filter((name) => name.startsWith('tiny-'))) {
  for (const name of readdirSync(join(golden, family))) {
    const path = join(golden, family, name);
    if (!existsSync(join(path, 'config.json'))) continue;
    await save(`${family}-${name}`, await loadModel(path));
    await save(`${family}-${name}-trained`, await loadTrainableModel(path), { maxShardSize: '50KB' });
  }
}
const tokenizer = characterTokenizer(TEXT);
const sizes = {
  vocabSize: tokenizer.vocabSize,
  hiddenSize: 32,
  numLayers: 2,
  numHeads: 4,
  numKeyValueHeads: 2,
};
await save('made', createModel(llamaConfig(sizes), { seed: 1 }), { tokenizer });
for (const file of files) await save(basename(file), await loadModel(file), { dtype: 'f32' });
