/** The end tokens of GGUF headers are llama.cpp's `special_eog_ids` (0c1e570, src/llama-vocab.cpp). */
import { describe, expect, test } from 'vitest';
import { ggufEndTokenIds } from '../../src/text/end-tokens.ts';
import { tokenizerFromGguf } from '../../src/text/tokenizer.ts';
import { modelMetadata, noModel } from './fixtures.ts';

type Keys = Readonly<Record<string, number>>;

function endsOf(tokens: readonly string[], keys: Keys = {}, model = 'gpt2'): number[] {
  const pairs = Object.entries(keys).map(([key, id]) => [`tokenizer.ggml.${key}_token_id`, id] as const);
  return ggufEndTokenIds(
    new Map<string, number | string | string[]>([
      ['tokenizer.ggml.model', model],
      ['tokenizer.ggml.tokens', [...tokens]],
      ...pairs,
    ]),
  );
}

test.each<[string, string[], Keys, number[]]>([
  ['ChatML with the eos of the base model', ['a', '<|endoftext|>', '<|im_end|>'], { eos: 1 }, [1, 2]],
  ['Llama 3', ['<|end_of_text|>', '<|eom_id|>', '<|eot_id|>'], { eos: 2 }, [2, 0, 1]],
  ['Gemma', ['<pad>', '<eos>', '<bos>', '<end_of_turn>'], { eos: 1 }, [1, 3]],
  ['Phi-3', ['<|endoftext|>', '<|assistant|>', '<|end|>'], { eos: 0 }, [0, 2]],
  ['DeepSeek', ['<｜begin▁of▁sentence｜>', '<｜end▁of▁sentence｜>'], {}, [1]],
  ['Mistral', ['<unk>', '<s>', '</s>'], { eos: 2 }, [2]],
  ['Kimi K2', ['[BOS]', '[EOS]', '[PAD]', '[EOT]'], {}, [1, 2, 3]],
  [
    'Qwen 2.5: tokens between files too, of each kind one',
    ['<|im_end|>', '<|fim_pad|>', '<|repo_name|>', '<|file_sep|>', '<fim-repo>'],
    { eos: 0 },
    [0, 1, 2, 3],
  ],
  ['a key for one of them', ['x', '<|repo_name|>', '<reponame>'], { fim_rep: 2 }, [2]],
  ['gpt-oss: <|end|> ends one message', ['<|end|>', '<|return|>', '<|call|>'], { eos: 1 }, [1, 2]],
  ['Solar Open: likewise', ['<|end|>', '<|flush|>', '<|calls|>'], { eos: 1 }, [1, 2]],
  ['<|end|> beside <|return|> alone', ['<|end|>', '<|return|>'], { eos: 1 }, [1, 0]],
  ['Gemma 4: </s> is a text like others', ['</s>', '<|tool_response>', '<turn|>'], { eos: 2 }, [2, 1]],
  ['ids that the vocabulary does not have', ['a', 'b'], { eos: 7, eot: -1 }, []],
])('%s', (_, tokens, keys, want) => {
  expect(endsOf(tokens, keys)).toEqual(want);
});

test("a header's own eos, eot and eom come first; SentencePiece has eos 2 where the header says nothing", () => {
  expect(endsOf(['a', '<EOT>', 'b', 'c', 'd'], { eos: 4, eot: 3, eom: 2 })).toEqual([4, 3, 2, 1]);
  expect(endsOf(['a', 'b', 'c'], {}, 'llama')).toEqual([2]);
  expect(endsOf(['a', 'b', 'c'], {}, 'gpt2')).toEqual([]);
  expect(ggufEndTokenIds(new Map([['tokenizer.ggml.eos_token_id', 9]]))).toEqual([9]);
});

describe.skipIf(noModel !== undefined)(`SmolLM2${noModel ? `: ${noModel}` : ''}`, () => {
  test('stops at <|im_end|> whatever its header calls eos', async () => {
    const metadata = new Map(await modelMetadata());
    // <|endoftext|>, <|im_end|> and <reponame>
    expect(ggufEndTokenIds(metadata)).toEqual([2, 0, 4]);
    metadata.set('tokenizer.ggml.eos_token_id', 0);
    expect(ggufEndTokenIds(metadata)).toEqual([0, 2, 4]);
    expect(tokenizerFromGguf(metadata).eosTokenIds).toEqual([0, 2, 4]);
  });
});
