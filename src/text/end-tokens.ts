/**
 * The tokens of a GGUF file that end a generation: llama.cpp's `special_eog_ids`, from the header's keys and
 * from known texts of any token type. So a file with the base model's eos still stops at the end of a turn.
 *
 * Source: llama.cpp 0c1e570, src/llama-vocab.cpp.
 */
import type { GgufValue } from '../format/gguf.ts';

const END_TEXTS: readonly string[] = (
  '<|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <|flush|> <|calls|> <end_of_turn> <|endoftext|> </s> ' +
  '<|eom_id|> <EOT> _<EOT> [EOT] [EOS] <|end_of_text|> <end_of_utterance> <eos> <turn|> <|tool_response> <｜end▁of▁sentence｜> [e~['
).split(' ');

/** Separators of files in fill-in-the-middle training, which end an answer. One token per key. */
const FILE_ENDS: readonly (readonly [key: string, texts: readonly string[]])[] = [
  ['fim_pad_token_id', ['<|fim_pad|>', '<fim-pad>', '<fim_pad>', '<PAD>', '[PAD]']],
  ['fim_rep_token_id', ['<|fim_repo|>', '<|repo_name|>', '<fim-repo>', '<REPO>', '<reponame>']],
  ['fim_sep_token_id', ['<|file_sep|>']],
];

/** All texts that end a generation or separate files. */
export const endTexts: readonly string[] = [...END_TEXTS, ...FILE_ENDS.flatMap(([, texts]) => texts)];

/**
 * @param metadata the key/value pairs of a GGUF header; keys of a wrong type count as missing
 * @returns the header's eos, eot and eom first, then the others in id order
 */
export function ggufEndTokenIds(metadata: ReadonlyMap<string, GgufValue>): number[] {
  const list = metadata.get('tokenizer.ggml.tokens');
  const tokens = (Array.isArray(list) ? list : []) as readonly unknown[];
  const idAt = (key: string): number | undefined => {
    const id = Number(metadata.get(`tokenizer.ggml.${key}`) ?? -1);
    // Unknown without a vocabulary.
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
  // Exceptions: <|end|> ends one of several messages (gpt-oss, Solar Open); </s> is an ordinary text (Gemma
  // 4, PLaMo).
  if ((has('<|call|>') || has('<|calls|>')) && (has('<|return|>') || has('<|flush|>'))) drop('<|end|>');
  if (has('<|tool_response>') || has('<|plamo:eos|>')) drop('</s>');
  return [...ids];
}
