/**
 * Writes the table of families in docs/models.md from the tiny models of test/golden/tiny-*: kinds of heads,
 * formats, and the largest error of one pass on every backend that runs here. Needs dist/.
 *
 * Usage: node scripts/family-table.mjs [--check]   # with --check: fails where the table has other rows; errors
 *                                                  # are not compared, since they depend on the processor
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadTensor, openCheckpoint } from '../dist/checkpoint/index.js';
import { setBackend } from '../dist/index.js';
import { loadModel } from '../dist/models/index.js';

/**
 * What the files do not say: folder, the models people know, what sets their decoder apart, and GGUF forms of
 * other names.
 */
const FAMILIES = [
  [
    'llama',
    'Llama 1 to 3, SmolLM2, TinyLlama, Yi',
    "Llama 3's frequency scaling",
    { 'llama3-rope': '../quant/llama3-rope-f32.gguf', 'gqa-tied': '../quant/gqa-tied-f32.gguf' },
  ],
  [
    'llama4_text',
    'Llama 4 (text, also from files with a vision tower)',
    'attention in chunks in three of four layers, the others without rotation; mixtures of experts',
  ],
  ['mistral', 'Mistral', 'sliding windows, a head dim other than D / N'],
  ['mixtral', 'Mixtral', 'mixtures of experts'],
  ['ministral3', 'Ministral 3', 'YaRN, queries that grow with their position'],
  ['qwen2', 'Qwen 2, 2.5', 'biases on q, k and v, windows in some layers'],
  ['qwen3', 'Qwen 3', 'norms on q and k, a head dim other than D / N'],
  ['qwen3_moe', 'Qwen3-MoE', 'mixtures of experts'],
  ['phi', 'Phi-1, 1.5, 2', 'attention and MLP in parallel, partial rotation, biases'],
  ['phi3', 'Phi-3, 3.5, 4, 4-mini', 'fused projections, LongRoPE, partial rotation'],
  ['gemma', 'Gemma 1', 'norm weights stored minus 1, scaled embeddings'],
  ['gemma2', 'Gemma 2', 'windows in every other layer, soft caps, four norms per layer, a query scale'],
  [
    'gemma3',
    'Gemma 3 (text, also from files with a vision tower)',
    'windows in five of six layers, with another RoPE base',
  ],
  [
    'gemma4_text',
    'Gemma 4 (text, also from files with a vision tower)',
    'other head dims in full layers, keys and values shared by the last layers, per-layer embeddings, mixtures of experts beside the MLP',
  ],
  ['smollm3', 'SmolLM3', 'every fourth layer without rotation'],
  ['olmo', 'OLMo 1', 'layer norms without weights, clamped q, k and v'],
  ['olmo2', 'OLMo 2', 'norms after attention and MLP, norms over all heads of q and k'],
  ['olmo3', 'OLMo 3', 'as OLMo 2, with windows in three of four layers'],
  ['granite', 'Granite 3', 'multipliers of embeddings, residuals, scores and logits'],
  ['glm4', 'GLM-4 (0414)', 'partial rotation of neighbouring pairs, four norms per layer'],
  [
    'cohere2',
    'Cohere2: Command R7B, Command A',
    'attention and MLP in parallel, windows in three of four layers, the others without rotation',
  ],
  ['ernie4_5', 'Ernie 4.5 (dense)', 'rotation of neighbouring pairs'],
  [
    'exaone4',
    'EXAONE 4',
    'norms after attention and MLP, windows in three of four layers, the others without rotation',
  ],
  ['hunyuan_v1_dense', 'Hunyuan (dense)', 'norms on q and k behind the rotation'],
  ['seed_oss', 'Seed-OSS', 'biases on q, k and v'],
  ['arcee', 'Arcee AFM', 'squared ReLU without a gate'],
  ['apertus', 'Apertus', 'xIELU without a gate, norms on q and k'],
  ['nanochat', 'nanochat', 'norms without weights, squared ReLU, a soft cap on logits'],
  ['stablelm', 'StableLM (not 2 12B)', 'layer norms, partial rotation'],
  ['gpt2', 'GPT-2', 'learned positions, layer norms'],
  ['gpt_bigcode', 'GPTBigCode: StarCoder, SantaCoder', 'GPT-2 with one key/value head, or fused by head'],
  ['gpt_neox', 'GPT-NeoX, Pythia', 'attention and MLP in parallel, partial rotation, fused by head'],
  ['opt', 'OPT (not 350M)', 'learned positions, ReLU'],
  ['starcoder2', 'StarCoder 2', 'layer norms, biases, a window in every layer'],
  [
    'gpt_oss',
    'gpt-oss',
    'sinks, windows in every other layer, mixtures of experts, YaRN; safetensors in bf16, f16 or f32',
  ],
  [
    'deepseek',
    'DeepSeek V2, V2-Lite, V3 (no fp8)',
    'YaRN, dense layers followed by mixtures of experts ([MLA](mla.md))',
  ],
  ['falcon', 'Falcon 7B, 11B, 40B, 180B (no ALiBi)', 'attention and MLP in parallel, fused by group'],
];

const root = fileURLToPath(new URL('..', import.meta.url));
const golden = join(root, 'test/golden');
const page = join(root, 'docs/models.md');
const [HEAD, RULE] = [
  '| family | heads | other features | formats | error |',
  '| --- | --- | --- | --- | --- |',
];

function kindOf({ latent, numHeads, numKeyValueHeads: K }) {
  if (latent) return 'MLA';
  return K === 1 ? 'MQA' : K === numHeads ? 'MHA' : 'GQA';
}

/** The largest |error| of one pass over the largest |logit|. */
async function errorOf(model, folder) {
  const checkpoint = await openCheckpoint(join(folder, 'golden.safetensors'));
  const read = (name) => loadTensor(checkpoint, name);
  const [tokens, wanted] = [read('tokens'), read('logits')];
  await checkpoint.close();
  const [B, T] = tokens.shape;
  const ids = Array.from(tokens.dataSync());
  const logits = model.forward(Array.from({ length: B }, (_, row) => ids.slice(row * T, (row + 1) * T)));
  const [got, want] = [logits.dataSync(), wanted.dataSync()];
  let [error, largest] = [0, 0];
  for (let i = 0; i < want.length; i++) {
    error = Math.max(error, Math.abs(got[i] - want[i]));
    largest = Math.max(largest, Math.abs(want[i]));
  }
  for (const tensor of [tokens, wanted, logits]) tensor.dispose();
  return error / largest;
}

async function rowOf([family, title, features, forms = {}], backends) {
  const parent = join(golden, `tiny-${family}`);
  const names = readdirSync(parent).filter((name) => existsSync(join(parent, name, 'golden.json')));
  const [kinds, architectures] = [new Set(), new Set()];
  let error = 0;
  for (const backend of backends) {
    await setBackend(backend);
    for (const name of names) {
      const paths = [name, forms[name] ?? `${name}.gguf`];
      for (const path of paths.filter((own) => existsSync(join(parent, own)))) {
        const model = await loadModel(join(parent, path));
        kinds.add(kindOf(model.config));
        if (path !== name) architectures.add(model.config.modelType);
        error = Math.max(error, await errorOf(model, join(parent, name)));
        model.dispose();
      }
    }
  }
  const gguf = [...architectures].map((name) => `, GGUF (\`${name}\`)`).join('');
  const order = ['MHA', 'GQA', 'MQA', 'MLA'].filter((kind) => kinds.has(kind));
  return `| ${title} | ${order.join(', ')} | ${features} | safetensors${gguf} | ${error.toExponential(1)} |`;
}

const folders = readdirSync(golden).flatMap((name) => /^tiny-(.*)$/.exec(name)?.[1] ?? []);
const unlisted = folders.filter((name) => !FAMILIES.some(([family]) => family === name));
if (unlisted.length > 0)
  throw new Error(`expected a row for ${unlisted.join(', ')} in scripts/family-table.mjs`);

const check = process.argv.includes('--check');
const rows = [];
for (const family of FAMILIES) {
  rows.push(await rowOf(family, check ? ['reference'] : ['native', 'wasm', 'reference']));
}
const text = readFileSync(page, 'utf8');
const [before, , after] = text.split(/(\| family \|[^\n]*\n(?:\|[^\n]*\n)+)/);
const table = [HEAD, RULE, ...rows].map((line) => `${line}\n`).join('');
const plain = (part) => part.replace(/ [^|]+ \|$/gm, '');
if (!check) writeFileSync(page, before + table + after);
else if (plain(before + table + after) !== plain(text)) {
  throw new Error(
    'docs/models.md: expected the table of the golden files; run node scripts/family-table.mjs',
  );
} else console.log(`${rows.length} families`);
