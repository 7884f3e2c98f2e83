// Compares greedy tokens of this library with llama.cpp's own, step by step, on the tiny GGUF files of
// test/golden (llama_cpp.mjs says how it is found). A row agrees when all steps do up to the first whose two
// best logits differ by less than 1e-3.
//
// Windows: llama.cpp has none for `llama` and switches Phi-3's off, so files that state one are compared up
// to its length; those of Gemma, OLMo 3 and Cohere2 slide in both. EXAONE 4 slides there in the model of 64
// layers only, so its tiny file with a window is not compared.
//
// DeepSeek: llama.cpp judges a group of experts by its two best, also in V2, whose model does by its best,
// and takes queries without a latent in models of V2-Lite's depth only: neither tiny file is compared.
//
// Quantised weights: llama.cpp quantises activations as well, so of `quant/` only files with wide margins are
// compared.
//
// Usage: node check_greedy_llama_cpp.mjs GQA_REPOSITORY [FOLDER/NAME …]   (after `npm run build` there)

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { agreement, greedy, llamaGreedy, openLlama, ours } from './llama_cpp.mjs';

const FILES = [
  'tiny-mistral/window',
  'tiny-mistral/plain',
  'tiny-qwen2/plain',
  'tiny-qwen3/plain',
  'tiny-phi3/plain',
  'tiny-phi3/longrope',
  'tiny-phi3/partial',
  'tiny-gpt2/prefix',
  'tiny-gemma2/plain',
  'tiny-gemma3/plain',
  'tiny-starcoder2/plain',
  'tiny-falcon/7b',
  'tiny-falcon/40b',
  'tiny-falcon/11b',
  'tiny-gpt_bigcode/one',
  'tiny-gpt_oss/plain',
  'tiny-deepseek/v3',
  'tiny-deepseek/v3-joint',
  'tiny-smollm3/plain',
  'tiny-mixtral/plain',
  'tiny-qwen3_moe/plain',
  'tiny-olmo2/plain',
  'tiny-olmo/plain',
  'tiny-olmo/clip',
  'tiny-olmo3/plain',
  'tiny-olmo3/yarn',
  'tiny-granite/plain',
  'tiny-granite/options',
  'tiny-gpt_neox/plain',
  'tiny-phi/plain',
  'tiny-stablelm/plain',
  'tiny-stablelm/parallel',
  'tiny-gemma/plain',
  'tiny-glm4/plain',
  'tiny-cohere2/plain',
  'tiny-ernie4_5/plain',
  'tiny-exaone4/full',
  'tiny-ministral3/plain',
  'tiny-hunyuan_v1_dense/plain',
  'tiny-seed_oss/plain',
  'tiny-arcee/plain',
  'tiny-apertus/plain',
  'tiny-llama4_text/long',
  'tiny-gemma4_text/plain',
  'tiny-gemma4_text/keys',
  'tiny-gemma4_text/experts',
  'quant/k-mixed',
];
const STEPS = 16;

const [repository, ...chosen] = process.argv.slice(2);
const { loadModel } = await ours(repository, 'models');
const { loadTensor, openCheckpoint } = await ours(repository, 'checkpoint');

const llama = await openLlama();
let wrong = 0;
for (const name of chosen.length > 0 ? chosen : FILES) {
  const base = join(repository, 'test/golden', name);
  const modelPath = `${base}.gguf`;
  if (!existsSync(modelPath)) throw new Error(`no ${modelPath}`);
  const whole = join(base.replace(/-joint$/, ''), 'golden.safetensors');
  const golden = await openCheckpoint(existsSync(whole) ? whole : `${base}.safetensors`);
  const prompt = Array.from(loadTensor(golden, 'greedy/prompt').dataSync());
  await golden.close();
  const model = await loadModel(modelPath);
  const { attention, modelType } = model.config;
  const windows = /^(gemma|gpt-oss|olmo2|cohere2)/.test(modelType)
    ? []
    : attention.map(({ window }) => window ?? Infinity);
  const window = Math.min(...windows);
  const steps = Math.min(STEPS, window - prompt.length + 1);
  const own = greedy(model, prompt, steps);
  model.dispose();
  const { agrees, same, tie, smallest } = agreement(own, await llamaGreedy(llama, modelPath, prompt, steps));
  if (!agrees) wrong++;
  console.log(
    `${agrees ? 'ok' : 'WRONG'} ${name}: ${same} of ${steps} tokens the same, smallest margin ${smallest.toFixed(4)}${tie < 0 ? '' : `, tie at step ${tie}`}`,
  );
}
console.log(`${wrong} different`);
process.exit(wrong === 0 ? 0 : 1);
