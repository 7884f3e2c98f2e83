/** What a checkpoint says about text: its tokenizer, if it has one, and the tokens after which an answer is over. */
import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import { FormatError } from '../format/format-error.ts';
import { parseJson } from '../format/parse-json.ts';
import type { Tokenizer, TokenizerConfigJson, TokenizerJson } from '../text/tokenizer.ts';

/**
 * A function that builds the tokenizer, which takes long; undefined when there is none. Files are read here, parsed there. The libraries
 * behind it, a third of the package's code, are loaded when there is a tokenizer: training on tokens at hand needs none.
 */
export async function tokenizerMaker(checkpoint: Checkpoint): Promise<(() => Tokenizer) | undefined> {
  const { gguf } = checkpoint;
  if (gguf) {
    const { metadata } = gguf;
    if (!metadata.has('tokenizer.ggml.tokens')) return undefined;
    const { tokenizerFromGguf } = await import('../text/tokenizer.ts');
    return () => tokenizerFromGguf(metadata);
  }
  const text = await checkpoint.readText('tokenizer.json');
  if (text === undefined) return undefined;
  const configText = await checkpoint.readText('tokenizer_config.json');
  const chatTemplate = await checkpoint.readText('chat_template.jinja');
  const extras = {
    eosTokenIds: endTokenIds(checkpoint),
    ...(chatTemplate !== undefined && { chatTemplate }),
  };
  const { directory } = checkpoint;
  const { tokenizerFromJson } = await import('../text/tokenizer.ts');
  return () =>
    tokenizerFromJson(
      checkTokenizer(`${directory}/tokenizer.json`, parseJson(`${directory}/tokenizer.json`, text)),
      configText === undefined
        ? {}
        : (parseJson(`${directory}/tokenizer_config.json`, configText) as TokenizerConfigJson),
      extras,
    );
}

/** Enough of tokenizer.json's shape that what reads it finds what it looks for: a vocabulary, and a list of added tokens. */
function checkTokenizer(file: string, json: unknown): TokenizerJson {
  const { model, added_tokens: added = [] } = (json ?? {}) as Partial<TokenizerJson>;
  if (typeof model?.vocab !== 'object' || model.vocab === null) {
    throw new FormatError(
      file,
      undefined,
      `expected an object with model.vocab, got ${JSON.stringify(json)?.slice(0, 60)}`,
    );
  }
  if (
    !Array.isArray(added) ||
    added.some((token) => typeof token?.content !== 'string' || !Number.isInteger(token.id))
  ) {
    throw new FormatError(
      file,
      undefined,
      'expected added_tokens to be a list of objects with id and content',
    );
  }
  return {
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    decoder: null,
    ...(json as object),
    model,
    added_tokens: added,
  };
}

/** End tokens by id: `eos_token_id` of both configs, or GGUF's eos, eot and eom; each a number or a list. */
export function endTokenIds(checkpoint: Checkpoint): readonly number[] {
  const { gguf } = checkpoint;
  const found = gguf
    ? ['eos', 'eot', 'eom'].map((name) => gguf.metadata.get(`tokenizer.ggml.${name}_token_id`))
    : [checkpoint.config, checkpoint.generationConfig].map(
        (config) => (config as { eos_token_id?: unknown } | undefined)?.eos_token_id,
      );
  const ids = found.flat().filter((id): id is number => typeof id === 'number');
  return Object.freeze([...new Set(ids)]);
}
