/** Tiny models of random weights that chat: one token per character, and templates made for a test. */
import type { BackendName } from '../../../src/backend/backend.ts';
import {
  type ChatMessage,
  type ForwardOptions,
  generate,
  loadModel,
  type Model,
  type Tokens,
} from '../../../src/models/index.ts';
import { tinyTokenizer } from '../../cli/tiny-checkpoint.ts';
import { copyTiny, type Json } from '../checkpoints.ts';
import { BACKENDS } from '../golden.ts';

/** The fastest backend here. */
export const backend: BackendName =
  (['native', 'wasm'] as const).find((name) => BACKENDS.includes(name)) ?? 'reference';

/** Keeps every message as it is. */
export const PLAIN: string =
  "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}" +
  '{% if add_generation_prompt %}<s>assistant: {% endif %}';

/** Leaves half of each earlier answer out, as templates of reasoning models do with the reasoning. */
export const SHORTENING: string =
  "{% for m in messages %}<s>{% if m['role'] == 'assistant' %}{{ m['content'][4:] }}{% else %}{{ m['content'] }}" +
  '{% endif %}</s>{% endfor %}{% if add_generation_prompt %}<s>a: {% endif %}';

/** Control tokens cannot come, so that an answer's text has the answer's tokens. */
export const TEXT_ONLY: { readonly logitBias: Readonly<Record<number, number>> } = {
  logitBias: { 0: -Infinity, 1: -Infinity, 2: -Infinity },
};

/** The folder of the checkpoint. @param template undefined for none */
export function tinyFolder(template: string | undefined, config: Json = {}): string {
  return copyTiny(
    'gqa-tied',
    { max_position_embeddings: 2048, ...config },
    {
      'tokenizer.json': JSON.stringify(tinyTokenizer),
      'tokenizer_config.json': JSON.stringify({ chat_template: template, bos_token: '<s>' }),
    },
  );
}

export function loadTinyChat(template: string | undefined, config?: Json): Promise<Model> {
  return loadModel(tinyFolder(template, config), { backend });
}

export async function textOf(pieces: AsyncIterable<string>): Promise<string> {
  let text = '';
  for await (const piece of pieces) text += piece;
  return text;
}

/** The answer to messages without a cache that holds earlier ones. */
export async function freshAnswer(
  model: Model,
  messages: readonly ChatMessage[],
  options: Parameters<typeof generate>[2],
): Promise<string> {
  const { tokenizer } = model;
  if (!tokenizer) throw new Error('expected a tokenizer');
  const prompt = tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true });
  const tokens: number[] = [];
  const ids = tokenizer.encode(prompt, { addSpecialTokens: false });
  for await (const token of generate(model, ids, options)) tokens.push(token);
  return tokenizer.decode(tokens, { skipSpecialTokens: true });
}

/** Counts the tokens that go through `model.forward` from now on. */
export function countFed(model: Model): () => number {
  let fed = 0;
  const forward = model.forward.bind(model);
  const counted = (tokens: Tokens, options?: ForwardOptions) => {
    fed += (tokens as number[][]).reduce((sum, row) => sum + row.length, 0);
    return forward(tokens, options);
  };
  Object.assign(model, { forward: counted });
  return () => fed;
}
