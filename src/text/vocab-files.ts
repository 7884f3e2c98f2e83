/**
 * Tokenizers from vocab.json and merges.txt without a tokenizer.json: byte-level BPE, pre-tokenized as in the
 * named class. Source: transformers 5.23, `GPT2Tokenizer`, `RobertaTokenizer`, `Qwen2Tokenizer`.
 */
import { familyFacts } from '../format/families.ts';
import { preTokenizerRecipe } from './gguf-pre-tokenizers.ts';
import { refuse } from './steps.ts';
import {
  configTokenText,
  type Step,
  type TokenizerConfigJson,
  type TokenizerJson,
} from './tokenizer-json.ts';

interface VocabFiles {
  /** vocab.json, parsed: ids by text. */
  readonly vocab: Readonly<Record<string, number>>;
  /** Text of merges.txt. */
  readonly merges: string;
  /** tokenizer_config.json, parsed. */
  readonly config: TokenizerConfigJson;
  /** `model_type` of config.json, which gives the class when the tokenizer's config does not. */
  readonly modelType: string | undefined;
}

const end = '<|endoftext|>';
const roberta = {
  bos_token: '<s>',
  eos_token: '</s>',
  unk_token: '<unk>',
  sep_token: '</s>',
  pad_token: '<pad>',
  cls_token: '<s>',
  mask_token: '<mask>',
};

/** Default special tokens of each class. */
const defaults: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  GPT2Tokenizer: { bos_token: end, eos_token: end, unk_token: end },
  Qwen2Tokenizer: { eos_token: end, unk_token: end, pad_token: end },
  RobertaTokenizer: roberta,
};

/**
 * @returns the equivalent tokenizer.json, and tokenizer_config.json with the special tokens of its class
 * @throws RangeError for a class other than the three
 */
export function tokenizerJsonFromVocab(files: VocabFiles): {
  json: TokenizerJson;
  config: TokenizerConfigJson;
} {
  const { vocab, config, modelType } = files;
  const stated = config.tokenizer_class;
  const kind =
    typeof stated === 'string' ? stated.replace(/Fast$/, '') : familyFacts(modelType ?? '').tokenizerClass;
  if (kind === undefined || !Object.hasOwn(defaults, kind)) {
    refuse(
      `tokenizer_class to be one of ${Object.keys(defaults).join(', ')} without a tokenizer.json`,
      stated ?? modelType,
    );
  }
  const full: TokenizerConfigJson = { ...defaults[kind], ...config };
  const isQwen = kind === 'Qwen2Tokenizer';
  const prefix: Step = {
    type: 'ByteLevel',
    add_prefix_space: config.add_prefix_space === true,
    use_regex: !isQwen,
  };
  const json: TokenizerJson = {
    model: { type: 'BPE', vocab, merges: mergesOf(files.merges) },
    added_tokens: [],
    normalizer: isQwen ? { type: 'NFC' } : null,
    pre_tokenizer: isQwen
      ? {
          type: 'Sequence',
          pretokenizers: [
            { type: 'Split', pattern: { Regex: preTokenizerRecipe('qwen2').splits[0] } },
            prefix,
          ],
        }
      : prefix,
    post_processor: kind === 'RobertaTokenizer' ? robertaProcessing(vocab, full) : null,
    decoder: { type: 'ByteLevel' },
  };
  // RoBERTa surrounds a text by cls and sep, not bos and eos.
  return {
    json,
    config: kind === 'RobertaTokenizer' ? { ...full, add_bos_token: null, add_eos_token: null } : full,
  };
}

function robertaProcessing(vocab: Readonly<Record<string, number>>, config: TokenizerConfigJson): Step {
  const [cls, sep] = ['cls_token', 'sep_token'].map((name) => {
    const text = configTokenText(config[name] as string | undefined);
    if (text === undefined || !Object.hasOwn(vocab, text)) refuse(`${name} to be in vocab.json`, text);
    return [text, vocab[text]];
  });
  return { type: 'RobertaProcessing', cls, sep };
}

/** Lines of merges.txt, without the version line. */
function mergesOf(text: string): string[] {
  const lines = text.split(/\r?\n/).filter((line) => line !== '' && !line.startsWith('#version'));
  const wrong = lines.find((line) => line.split(' ').length !== 2);
  if (wrong !== undefined) refuse("lines of merges.txt to be 'left right'", wrong);
  return lines;
}
