/** A checkpoint small enough for every backend: random weights and a vocabulary of 97 characters. */
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const source = fileURLToPath(new URL('../golden/tiny-llama/gqa-tied', import.meta.url));

/** The text of each token id: `<unk>`, `<s>`, `</s>` and the 94 characters from space to `}`. */
export const tinyTokens: readonly string[] = [
  '<unk>',
  '<s>',
  '</s>',
  ...Array.from({ length: 94 }, (_, i) => String.fromCharCode(32 + i)),
];

/** Its tokenizer.json: one token per character. */
export const tinyTokenizer: Readonly<Record<string, unknown>> = {
  model: { type: 'BPE', vocab: Object.fromEntries(tinyTokens.map((token, id) => [token, id])), merges: [] },
  added_tokens: [0, 1, 2].map((id) => ({ id, content: tinyTokens[id], special: true, normalized: false })),
  normalizer: null,
  pre_tokenizer: null,
  post_processor: null,
  decoder: { type: 'Fuse' },
};

const template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }} {% endfor %}";

export interface TinyOptions {
  /** Default true. */
  readonly tokenizer?: boolean;
  /** Default true. */
  readonly template?: boolean;
  /** Positions of the model; default 256. Nothing in it depends on them. */
  readonly context?: number;
  /** Whether it has an end token; default false, so that it goes on for ever. */
  readonly ends?: boolean;
}

/** A fresh copy of the checkpoint, removed after `use`. */
export async function withTinyCheckpoint<T>(
  options: TinyOptions,
  use: (folder: string) => Promise<T>,
): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'gqa-cli-'));
  try {
    await cp(source, folder, { recursive: true });
    const config = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')) as Record<string, unknown>;
    config.max_position_embeddings = options.context ?? 256;
    if (!options.ends) {
      delete config.eos_token_id;
      await rm(join(folder, 'generation_config.json'), { force: true });
    }
    await writeFile(join(folder, 'config.json'), JSON.stringify(config));
    if (options.tokenizer !== false) {
      await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(tinyTokenizer));
      const tokenizerConfig = options.template === false ? {} : { chat_template: template };
      await writeFile(join(folder, 'tokenizer_config.json'), JSON.stringify(tokenizerConfig));
    }
    return await use(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}
