/**
 * How a byte-level vocabulary in a GGUF file cuts text into words before its merges run. The file names the cutting
 * (`tokenizer.ggml.pre`) and does not describe it, so the table is ours: the patterns of each family's tokenizer.json,
 * which llama.cpp (`llama-vocab.cpp`, b-series of 2026) approximates under the same names.
 */

/** What a name in `tokenizer.ggml.pre` stands for. */
export interface PreTokenizerRecipe {
  /** Regular expressions in Oniguruma's syntax; each in turn cuts every piece so far into its matches and the rest. */
  readonly splits: readonly string[];
  /** A word that is a token by itself is taken whole, without running the merges. Default false. */
  readonly ignoreMerges?: boolean;
  /** Whether a text starts with the bos token where the file does not say (`add_bos_token`). Default false. */
  readonly addBos?: boolean;
  /** Text is brought into Unicode normal form C first. Default false. */
  readonly nfc?: boolean;
}

const contraction = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const upper = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]';
const lower = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]';
const lineEnds = '\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';

/** The pattern of GPT-2, which the ByteLevel pre-tokenizer of Hugging Face's library has built in. */
export const gpt2Split: string =
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/** cl100k's pattern, with the longest run of digits that stays one word. */
function cl100kSplit(digits: string): string {
  return `${contraction}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|${lineEnds}`;
}

/** o200k's pattern, which also cuts between a lower-case and an upper-case letter. */
function o200kSplit(suffix: string, digits: string): string {
  const before = '[^\\r\\n\\p{L}\\p{N}]?';
  return (
    `${before}${upper}*${lower}+${suffix}|${before}${upper}+${lower}*${suffix}|` +
    `${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|${lineEnds}`
  );
}

const gpt2: PreTokenizerRecipe = { splits: [gpt2Split] };
const singleDigits: PreTokenizerRecipe = { splits: ['\\p{N}', gpt2Split] };
const llama3: PreTokenizerRecipe = { splits: [cl100kSplit('\\p{N}{1,3}')], ignoreMerges: true, addBos: true };
const cl100k: PreTokenizerRecipe = { splits: [cl100kSplit('\\p{N}{1,3}')] };
const qwen2: PreTokenizerRecipe = { splits: [cl100kSplit('\\p{N}')] };
const o200k: PreTokenizerRecipe = { splits: [o200kSplit(`${contraction}?`, '\\p{N}{1,3}')] };

const recipes: ReadonlyMap<string, PreTokenizerRecipe> = new Map([
  // What llama.cpp does for a file that has no name or says 'default': files made before the names existed.
  ['default', { splits: ['[\\p{P}\\$\\+<=>\\^~\\|]+', gpt2Split, '\\p{N}+', '[0-9][0-9][0-9]'] }],
  ['gpt-2', gpt2],
  ['phi-2', gpt2],
  ['smollm', singleDigits],
  ['starcoder', singleDigits],
  ['refact', singleDigits],
  ['llama3', llama3],
  ['llama-v3', llama3],
  ['llama-bpe', llama3],
  ['falcon3', llama3],
  ['pixtral', llama3],
  ['dbrx', cl100k],
  ['smaug-bpe', cl100k],
  ['qwen2', { ...qwen2, nfc: true }],
  ['deepseek-r1-qwen', qwen2],
  ['megrez', qwen2],
  ['gpt-4o', o200k],
  ['llama4', o200k],
  ['tekken', { splits: [o200kSplit('', '\\p{N}')], ignoreMerges: true, addBos: true }],
  ['falcon', { splits: ['[\\p{P}\\$\\+<=>\\^~\\|`]+', gpt2Split, '[0-9][0-9][0-9]'] }],
  ['deepseek-coder', { splits: ['[\\r\\n]', '\\s?\\p{L}+', '\\s?\\p{P}+', '[一-龥ࠀ-一가-퟿]+', '\\p{N}'] }],
  [
    'deepseek-v3',
    {
      splits: [
        '\\p{N}{1,3}',
        '[一-龥぀-ゟ゠-ヿ]+',
        '[!"#$%&\'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|' +
          ` ?[\\p{P}\\p{S}]+[\\r\\n]*|${lineEnds}`,
      ],
    },
  ],
]);

/**
 * The recipe a GGUF file asks for.
 * @param name the value of `tokenizer.ggml.pre`; undefined when the file has none, which means `default`
 * @throws RangeError for a name the table does not have: with a wrong cutting a model runs, worse and unnoticed
 */
export function preTokenizerRecipe(name: string | undefined): PreTokenizerRecipe {
  const recipe = recipes.get(name ?? 'default');
  if (recipe === undefined) {
    const known = [...recipes.keys()].join(', ');
    throw new RangeError(`tokenizer: expected tokenizer.ggml.pre to be one of ${known}, got '${name}'`);
  }
  return recipe;
}
