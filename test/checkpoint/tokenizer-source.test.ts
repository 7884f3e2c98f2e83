/**
 * Tokenizers of folders with special tokens in several files or without tokenizer.json, against transformers.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { Checkpoint } from '../../src/checkpoint/checkpoint.ts';
import { safetensorsCheckpoint } from '../../src/checkpoint/safetensors-checkpoint.ts';
import { MemoryFolder } from '../../src/files/memory-folder.ts';
import { FormatError } from '../../src/format/format-error.ts';

const golden = JSON.parse(
  readFileSync(fileURLToPath(new URL('../golden/tokenizers/folders.json', import.meta.url)), 'utf8'),
) as {
  vocab: Record<string, number>;
  cases: { name: string; files: Record<string, unknown>; rows: [string, number[], string, string][] }[];
};

/** A folder with these files and no weights. */
function folder(files: Readonly<Record<string, unknown>>): Checkpoint {
  const texts = Object.entries(files).map(([name, file]) => {
    const content = file === 'shared' ? golden.vocab : file;
    return [name, typeof content === 'string' ? content : JSON.stringify(content)];
  });
  const parts = {
    folder: new MemoryFolder('folder', Object.fromEntries(texts)),
    config: files['config.json'],
  };
  return new Checkpoint(
    safetensorsCheckpoint,
    { folder: parts.folder },
    {
      ...parts,
      file: 'config.json',
      tensors: new Map(),
    },
  );
}

describe('folders of a tokenizer', () => {
  test.each(golden.cases)('$name', async ({ files, rows }) => {
    const tokenizer = (await safetensorsCheckpoint.text(folder(files))).makeTokenizer!();
    const got = rows.map(([text]) => {
      const ids = tokenizer.encode(text);
      return [text, ids, tokenizer.decode(ids), tokenizer.decode(ids, { skipSpecialTokens: true })];
    });
    expect(got).toEqual(rows);
  });

  test('vocab.json and merges.txt of another class are refused by name', async () => {
    const files = {
      'vocab.json': { a: 0 },
      'merges.txt': '',
      'tokenizer_config.json': { tokenizer_class: 'CTRLTokenizer' },
    };
    const { makeTokenizer: make } = await safetensorsCheckpoint.text(
      folder({ ...files, 'merges.txt': '#version: 0.2\n' }),
    );
    expect(make).toThrow(/tokenizer_class to be one of GPT2Tokenizer.*got "CTRLTokenizer"/);
    expect(
      (await safetensorsCheckpoint.text(folder({ 'vocab.json': { a: 0 } }))).makeTokenizer,
    ).toBeUndefined();
  });

  test('each file is read once', async () => {
    const opened: string[] = [];
    const checkpoint = folder(golden.cases[0].files);
    const { folder: files } = checkpoint;
    const open = files.open.bind(files);
    files.open = (file) => {
      opened.push(file);
      return open(file);
    };
    await safetensorsCheckpoint.text(checkpoint);
    expect(opened).toContain('tokenizer_config.json');
    expect(opened).toEqual([...new Set(opened)]);
  });

  const bpe = { type: 'BPE', vocab: { a: 0 }, merges: [] as unknown };
  test.each<[string, Record<string, unknown>, RegExp]>([
    [
      'merges that are no list',
      { 'tokenizer.json': { model: { ...bpe, merges: 'x' } } },
      /model\.merges to be a list/,
    ],
    ...[5, { a: 1 }, [null], [5], [{ name: 'x' }]].map(
      (chat_template): [string, Record<string, unknown>, RegExp] => [
        `chat_template ${JSON.stringify(chat_template)}`,
        { 'tokenizer.json': { model: bpe }, 'tokenizer_config.json': { chat_template } },
        /chat_template to be a text, or a list of objects with name and template, got /,
      ],
    ),
  ])('what is refused names the checkpoint: %s', async (_, files, message) => {
    const { makeTokenizer: make } = await safetensorsCheckpoint.text(folder(files));
    expect(make).toThrow(FormatError);
    expect(make).toThrow(/^folder: tokenizer: expected /);
    expect(make).toThrow(message);
  });
});
