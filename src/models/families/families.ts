/** All supported families. */
import { apertus } from './apertus.ts';
import { arcee } from './arcee.ts';
import { cohere2 } from './cohere2.ts';
import { deepseek } from './deepseek.ts';
import { ernie45 } from './ernie4-5.ts';
import { exaone4 } from './exaone4.ts';
import { falcon } from './falcon.ts';
import type { Family } from './family.ts';
import { gemma } from './gemma.ts';
import { gemma2 } from './gemma2.ts';
import { gemma3 } from './gemma3.ts';
import { gemma4 } from './gemma4.ts';
import { glm4 } from './glm4.ts';
import { gptBigCode } from './gpt-bigcode.ts';
import { gptNeox } from './gpt-neox.ts';
import { gptOss } from './gpt-oss.ts';
import { gpt2 } from './gpt2.ts';
import { granite } from './granite.ts';
import { hunyuanDense } from './hunyuan-dense.ts';
import { llama } from './llama.ts';
import { llama4 } from './llama4.ts';
import { ministral3 } from './ministral3.ts';
import { mistral } from './mistral.ts';
import { mixtral } from './mixtral.ts';
import { nanochat } from './nanochat.ts';
import { olmo } from './olmo.ts';
import { olmo2, olmo3 } from './olmo2.ts';
import { opt } from './opt.ts';
import { phi } from './phi.ts';
import { phi3 } from './phi3.ts';
import { qwen2 } from './qwen2.ts';
import { qwen3 } from './qwen3.ts';
import { qwen3Moe } from './qwen3-moe.ts';
import { seedOss } from './seed-oss.ts';
import { smollm3 } from './smollm3.ts';
import { stablelm } from './stablelm.ts';
import { starcoder2 } from './starcoder2.ts';

export const FAMILIES: readonly Family[] = [
  llama,
  mistral,
  qwen2,
  qwen3,
  phi3,
  gemma2,
  gemma3,
  gpt2,
  gptBigCode,
  gptOss,
  starcoder2,
  falcon,
  deepseek,
  smollm3,
  mixtral,
  qwen3Moe,
  olmo2,
  olmo,
  olmo3,
  granite,
  gptNeox,
  opt,
  phi,
  stablelm,
  gemma,
  glm4,
  cohere2,
  ernie45,
  exaone4,
  ministral3,
  hunyuanDense,
  seedOss,
  llama4,
  gemma4,
  nanochat,
  arcee,
  apertus,
];
