/**
 * Which tokens of a GGUF file end a generation: llama.cpp's `special_eog_ids`, by the header's keys and by known texts whatever their
 * type. So a file whose eos is that of the base model still stops at the end of a turn.
 *
 * Source: llama.cpp 0c1e570, src/llama-vocab.cpp.
 */
import type { GgufValue } from '../format/gguf.ts';

const END_TEXTS: ReadonlySet<string> = new Set([
  '<|eot_id|>',
  '<|im_end|>',
  '<|end|>',
  '<|return|>',
  '<|call|>',
  '<|flush|>',
  '<|calls|>',
  '<end_of_turn>',
  '<|endoftext|>',
  '</s>',
  '<|eom_id|>',
  '<EOT>',
  '_<EOT>',
  '[EOT]',
  '[EOS]',
  '<|end_of_text|>',
  '<end_of_utterance>',
  '<eos>',
  '<turn|>',
  '<|tool_response>',
  '<｜end▁of▁sentence｜>',
  '[e~[',
]);

/** Of each kind one: tokens that stand between files when a model fills in the middle, so that what follows is no answer. */
const FILE_ENDS: readonly (readonly [key: string, texts: readonly string[]])[] = [
  ['fim_pad_token_id', ['<|fim_pad|>', '<fim-pad>', '<fim_pad>', '<PAD>', '[PAD]']],
  ['fim_rep_token_id', ['<|fim_repo|>', '<|repo_name|>', '<fim-repo>', '<REPO>', '<reponame>']],
  ['fim_sep_token_id', ['<|file_sep|>']],
];

/** All texts that end a generation, or stand between files. */
export const endTexts: readonly string[] = [...END_TEXTS, ...FILE_ENDS.flatMap(([, texts]) => texts)];

/**
 * @param metadata the key/value pairs of a GGUF header; keys of another type than theirs count as missing
 * @returns the header's eos, eot and eom first, then the others by id
 */
export function ggufEndTokenIds(metadata: ReadonlyMap<string, GgufValue>): number[] {
  const list = metadata.get('tokenizer.ggml.tokens');
  const tokens = (Array.isArray(list) ? list : []) as readonly unknown[];
  const idAt = (key: string): number | undefined => {
    const id = Number(metadata.get(`tokenizer.ggml.${key}`) ?? -1);
    // Without a vocabulary there is no telling.
    const isId = Number.isInteger(id) && id >= 0 && (tokens.length === 0 || id < tokens.length);
    return isId ? id : undefined;
  };
  const defaultEos = metadata.get('tokenizer.ggml.model') === 'llama' ? 2 : undefined;
  const stated = [idAt('eos_token_id') ?? defaultEos, idAt('eot_token_id'), idAt('eom_token_id')];
  const ids = new Set(stated.filter((id) => id !== undefined));
  const found = new Map<string, number>();
  tokens.forEach((text, id) => {
    if (typeof text === 'string' && !found.has(text)) found.set(text, id);
  });
  const byText: number[] = [];
  for (const text of END_TEXTS) byText.push(found.get(text) ?? -1);
  for (const [key, texts] of FILE_ENDS) {
    const places = texts.map((text) => found.get(text)).filter((id) => id !== undefined);
    byText.push(idAt(key) ?? (places.length > 0 ? Math.min(...places) : -1));
  }
  for (const id of byText.sort((a, b) => a - b)) if (id >= 0) ids.add(id);
  const has = (text: string): boolean => ids.has(found.get(text) ?? -1);
  const drop = (text: string): void => void ids.delete(found.get(text) ?? -1);
  // There <|end|> ends one message of several (gpt-oss, Solar Open), and </s> is a text like others (Gemma 4, PLaMo).
  if ((has('<|call|>') || has('<|calls|>')) && (has('<|return|>') || has('<|flush|>'))) drop('<|end|>');
  if (has('<|tool_response>') || has('<|plamo:eos|>')) drop('</s>');
  return [...ids];
}
