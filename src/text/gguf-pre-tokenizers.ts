/**
 * Pre-tokenizers of byte-level vocabularies in GGUF files. A file only names its pre-tokenizer
 * (`tokenizer.ggml.pre`), so this table holds the patterns from each family's tokenizer.json. llama.cpp
 * (`llama-vocab.cpp`, b-series of 2026) approximates them under the same names.
 */

/** The pre-tokenizer of a name in `tokenizer.ggml.pre`. */
export interface PreTokenizerRecipe {
  /**
   * Regular expressions in Oniguruma's syntax, applied in turn; each splits the pieces into matches and the
   * text between.
   */
  readonly splits: readonly string[];
  /** A word that is a token is not split by merges. Default false. */
  readonly ignoreMerges?: boolean;
  /** Default of `add_bos_token`: whether a text starts with bos. Default false. */
  readonly addBos?: boolean;
  /** Whether text is normalized to Unicode NFC first. Default false. */
  readonly nfc?: boolean;
}

const contraction = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const lineEnds = '\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';

/** The pattern of GPT-2, built into Hugging Face's ByteLevel pre-tokenizer. */
export const gpt2Split: string =
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/** cl100k's pattern; `digits` is the maximum number of digits in a word. */
function cl100kSplit(digits: string): string {
  return `${contraction}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|${lineEnds}`;
}

/**
 * o200k's pattern, which also splits between a lower-case and an upper-case letter.
 * @param but characters excluded from letters, as the end of a class
 * @param slash characters besides line ends that may follow punctuation
 */
function o200kSplit(suffix: string, digits: string, but = '', slash = '/'): string {
  const before = '[^\\r\\n\\p{L}\\p{N}]?';
  const upper = `[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}${but}]`;
  const lower = `[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}${but}]`;
  return (
    `${before}${upper}*${lower}+${suffix}|${before}${upper}+${lower}*${suffix}|` +
    `${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n${slash}]*|${lineEnds}`
  );
}

const gpt2: PreTokenizerRecipe = { splits: [gpt2Split] };
const singleDigits: PreTokenizerRecipe = { splits: ['\\p{N}', gpt2Split] };
const llama3: PreTokenizerRecipe = { splits: [cl100kSplit('\\p{N}{1,3}')], ignoreMerges: true, addBos: true };
const cl100k: PreTokenizerRecipe = { splits: [cl100kSplit('\\p{N}{1,3}')] };
const qwen2: PreTokenizerRecipe = { splits: [cl100kSplit('\\p{N}')] };
const o200k: PreTokenizerRecipe = { splits: [o200kSplit(`${contraction}?`, '\\p{N}{1,3}')] };

const ideographs = '[一-龥぀-ゟ゠-ヿ]+';
const asciiSign = '[!"#$%&\'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~]';
/** DeepSeek V3's words, punctuation and spaces. */
const deepseekWords = `${asciiSign}[A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+`;
const deepseek3: PreTokenizerRecipe = {
  splits: ['\\p{N}{1,3}', ideographs, `${deepseekWords}| ?[\\p{P}\\p{S}]+[\\r\\n]*|${lineEnds}`],
};
const bloom: PreTokenizerRecipe = { splits: [' ?[^(\\s|.,!?…。，、।۔،)]+'] };
const bailing: PreTokenizerRecipe = {
  splits: [
    "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+",
  ],
};
const glm4: PreTokenizerRecipe = { ...cl100k, ignoreMerges: true };
const tinyAya: PreTokenizerRecipe = { splits: ['\\d{1,3}(?=(?:\\d{3})*\\b)', ...o200k.splits] };

/** Recipes by their names, which are separated by spaces. */
const table: Readonly<Record<string, PreTokenizerRecipe>> = {
  // Files without a name, or with 'default', as llama.cpp treats them: they are older than the names.
  default: { splits: ['[\\p{P}\\$\\+<=>\\^~\\|]+', gpt2Split, '\\p{N}+', '[0-9][0-9][0-9]'] },
  'gpt-2 phi-2 jina-es jina-de jina-v1-en jina-v2-es jina-v2-de jina-v2-code a.x-4.0 mellum modern-bert':
    gpt2,
  'roberta-bpe gigachat mpt olmo jais trillion granite-docling exaone4': gpt2,
  'smollm starcoder refact command-r codeshell exaone minerva-7b mellum2': singleDigits,
  'llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano': llama3,
  'dbrx smaug-bpe chatglm-bpe': cl100k,
  'glm4 glm5': glm4,
  // Of these families only Qwen normalizes text.
  qwen2: { ...qwen2, nfc: true },
  'deepseek-r1-qwen megrez kormo f2llmv2 hunyuan solar-open stablelm2 grok-2': qwen2,
  qwen35: {
    splits: [
      `${contraction}|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|${lineEnds}`,
    ],
    nfc: true,
  },
  'gpt-4o llama4 kanana2 talkie minimax-m2': o200k,
  'granite-embed-multi-97m': { ...o200k, ignoreMerges: true },
  'tiny_aya cohere2moe': tinyAya,
  tekken: { splits: [o200kSplit('', '\\p{N}')], ignoreMerges: true, addBos: true },
  falcon: { splits: ['[\\p{P}\\$\\+<=>\\^~\\|`]+', gpt2Split, '[0-9][0-9][0-9]'] },
  'deepseek-coder': { splits: ['[\\r\\n]', '\\s?\\p{L}+', '\\s?\\p{P}+', '[一-龥ࠀ-一가-퟿]+', '\\p{N}'] },
  'deepseek-llm': {
    splits: [
      '[\\r\\n]',
      '\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+',
      '\\s?[!-/:-~！-／：-～‘-‟　-。]+',
      '\\s+$',
      '[一-龥ࠀ-一가-퟿]+',
      '\\p{N}+',
    ],
  },
  'deepseek-v3 hunyuan-dense joyai-llm hy_v4': deepseek3,
  spark2_5: {
    splits: [
      '\\p{N}{1,3}',
      ideographs,
      `${deepseekWords}| ?[\\p{P}\\p{S}]+|[\\r\\n]|\\s+(?!\\S)|\\s+`,
      '\\p{N}',
    ],
  },
  youtu: {
    splits: [
      `[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|${ideographs}`,
      o200kSplit(`${contraction}?`, '\\p{N}'),
    ],
    ignoreMerges: true,
  },
  minicpm5: { splits: ['\\p{N}{1,3}', cl100kSplit('\\p{N}+')], ignoreMerges: true },
  'jais-2': {
    splits: [
      `${contraction}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|` +
        [512, 256, 128, 64, 32, 16, 8, 4].map((n) => `\\s{${n}}(?!\\S)|`).join('') +
        '\\s{1,2}(?!\\S)|\\s{1}',
    ],
  },
  'poro-chat bloom gpt3-finnish': bloom,
  viking: { splits: [...bloom.splits, '\\p{N}'] },
  chameleon: {
    splits: [
      '<sentinel:[0-9]+>',
      '(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z',
      '([\\t\\n]|    |  )',
      '\\p{N}',
      '[\\p{P}!-/:-@\\[-`{-~]',
      gpt2Split,
    ],
    addBos: true,
  },
  'kimi-k2': {
    splits: [`[\\p{Han}]+|${o200kSplit(`${contraction}?`, '\\p{N}{1,3}', '&&[^\\p{Han}]', '')}`],
  },
  superbpe: { splits: ['\\p{N}+', '(?=(\\d{3})+(?!\\d))'] },
  'bailingmoe bailingmoe2 llada-moe': bailing,
  'seed-coder': {
    splits: [
      `${contraction}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|${lineEnds}`,
    ],
  },
  ufakzeka: { splits: [`[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|${lineEnds}`] },
  afmoe: {
    splits: [
      '\\p{N}{1,3}(?=(?:\\p{N}{3})*(?!\\p{N}))',
      '[一-鿿㐀-䶿豈-﫿぀-ゟ゠-ヿ･-ﾟ⼀-⿟เ-๿຀-໿ក-៿က-႟ꩠ-ꩿꧠ-꧿가-힯ᄀ-ᇿ]+',
      ...deepseek3.splits.slice(2),
    ],
  },
  laguna: { splits: ['[^\\n]+|[\\n]+', ...qwen2.splits] },
  'exaone-moe': {
    splits: [
      `${contraction}|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|` +
        '\\s*[\\r\\n]|\\s+(?!\\S)|\\s+',
    ],
  },
};

const recipes: ReadonlyMap<string, PreTokenizerRecipe> = new Map(
  Object.entries(table).flatMap(([names, recipe]) => names.split(' ').map((name) => [name, recipe] as const)),
);

/** Vocabularies that are not byte-level; llama.cpp has separate code for each. */
const notByteLevel: readonly string[] = ['gemma4', 'granite-embed-multi-311m', 'sarvam-moe', 'whitespace'];

/**
 * The pre-tokenizer of a GGUF file.
 * @param name the value of `tokenizer.ggml.pre`; undefined (no key) means `default`
 * @throws RangeError for an unknown name: a wrong pre-tokenizer would silently degrade the model
 */
export function preTokenizerRecipe(name: string | undefined): PreTokenizerRecipe {
  const recipe = recipes.get(name ?? 'default');
  if (name !== undefined && notByteLevel.includes(name)) {
    throw new RangeError(
      `tokenizer: expected tokenizer.ggml.pre to name a byte-level vocabulary, got '${name}'; use the model's Hugging Face files`,
    );
  }
  if (recipe === undefined) {
    const known = [...recipes.keys()].join(', ');
    throw new RangeError(`tokenizer: expected tokenizer.ggml.pre to be one of ${known}, got '${name}'`);
  }
  return recipe;
}
