/** All supported families. */
import { deepseek } from './deepseek.ts';
import { falcon } from './falcon.ts';
import type { Family } from './family.ts';
import { gemma2 } from './gemma2.ts';
import { gemma3 } from './gemma3.ts';
import { gptBigCode } from './gpt-bigcode.ts';
import { gptOss } from './gpt-oss.ts';
import { gpt2 } from './gpt2.ts';
import { llama } from './llama.ts';
import { mistral } from './mistral.ts';
import { phi3 } from './phi3.ts';
import { qwen2 } from './qwen2.ts';
import { qwen3 } from './qwen3.ts';
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
];
