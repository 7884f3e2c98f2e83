/** Control characters from files appear as text in names, errors, warnings, JSON and pages. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { printable, printableJson, printableLine } from '../../src/arguments/printable.ts';
import { writePiece } from '../../src/cli/output.ts';
import { FormatError } from '../../src/format/format-error.ts';
import { escapeHtml } from '../../src/page/html-page.ts';
import { withFolder } from '../checkpoint/temporary-folder.ts';
import { buildGguf, buildSafetensors, stringPair, u32Pair } from '../format/build-files.ts';
import { runCli } from './run-cli.ts';
import { noTerminal, runInTerminal } from './terminal.ts';

/**
 * Renames the window, clears the screen, does so with a C1 sign, shows letters in another order, returns to
 * the line's start.
 */
const EVIL = '\x1b]0;owned\x07\x1b[2J\x9b2J\u202egnp\r';
const SHOWN = '\\x1b]0;owned\\x07\\x1b[2J\\x9b2J\\u202egnp\\x0d';
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
const CONTROLS = /[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/;

const config = {
  ...{ model_type: `llama${EVIL}`, hidden_size: 48, num_hidden_layers: 2, num_attention_heads: 6 },
  ...{ intermediate_size: 64, vocab_size: 97, max_position_embeddings: 512, [`kv_${EVIL}\n`]: EVIL },
};
const name = `a.weight${EVIL}\nb`;
const weights = buildSafetensors(
  { [name]: { dtype: 'F32', shape: [2], data_offsets: [0, 8] } },
  new Uint8Array(8),
);
const gguf = (arch: string) =>
  buildGguf({
    pairs: [
      stringPair('general.architecture', arch),
      u32Pair(`${arch}.block_count`, 1),
      u32Pair(`${arch}.context_length`, 64),
      u32Pair(`${arch}.embedding_length`, 64),
      u32Pair(`${arch}.attention.head_count`, 4),
      u32Pair(`${arch}.attention.head_count_kv`, 2),
      u32Pair(`${arch}.attention.kv_${EVIL}`, 2),
    ],
    tensors: [{ name: `blk.0${EVIL}`, dims: [64], type: 0, offset: 0 }],
    dataBytes: 256,
  });

const files = {
  'hf/config.json': JSON.stringify(config),
  'hf/model.safetensors': weights,
  'm.gguf': gguf(`llama${EVIL}`),
  'ok.gguf': gguf('llama'),
  'bad/config.json': JSON.stringify({ ...config, sliding_window: EVIL }),
  'text/config.json': `{"a": ${EVIL}`,
  [`x${EVIL}.gguf`.replaceAll('/', '')]: new Uint8Array(3),
};

describe('commands on files made to steer a terminal', () => {
  test.each([
    ['inspect', 'hf', '--tensors'],
    ['inspect', 'hf', '--tensors', '--json'],
    ['inspect', 'm.gguf', '--tensors'],
    ['inspect', 'ok.gguf', '--tensors', '--json'],
    ['plan', 'hf/config.json'],
    ['plan', 'hf/config.json', '--json'],
    ['plan', 'm.gguf'],
    ['plan', 'bad/config.json'],
    ['plan', 'text/config.json'],
    ['plan', `x${EVIL}.gguf`],
    ['plan', `org/${EVIL}`],
    ['convert', 'm.gguf', 'out.gguf', '--kv-heads', '1'],
    ['convert', 'hf', 'out', '--kv-heads', '1'],
    ['generate', 'hf', 'x'],
    ['generate', 'ok.gguf', 'x'],
    ['plan', 'llama-3-8b', '--kv-dtype', EVIL],
    [EVIL],
  ])('gqa %s %s %s', async (...args) => {
    await withFolder(files, async (folder) => {
      const paths = args.map((arg, i) =>
        i > 0 && /^(hf|m\.|ok|bad|text|x|out)/.test(arg) && arg !== 'x' ? join(folder, arg) : arg,
      );
      const { stdout, stderr } = await runCli(paths);
      expect(stdout + stderr).not.toMatch(CONTROLS);
      expect(stdout + stderr).not.toBe('');
    });
  });

  test('what is shown instead', async () => {
    await withFolder(files, async (folder) => {
      const page = join(folder, 'page.html');
      const seen = await runCli(['plan', join(folder, 'hf/config.json'), '--html', page]);
      expect(seen.stdout).toContain(`llama${SHOWN}`);
      expect(seen.stderr).toMatch(/^gqa: warning: the cache may be of another size: .*kv_\\x1b/);
      expect(seen.stderr.trimEnd().split('\n').length).toBe(2);
      expect(await readFile(page, 'utf8')).not.toMatch(CONTROLS);
      const json = await runCli(['inspect', join(folder, 'hf'), '--tensors', '--json']);
      const { family, tensors } = JSON.parse(json.stdout);
      expect(family).toBe(`llama${EVIL}`);
      expect(tensors[0].name).toBe(name);
      const table = await runCli(['inspect', join(folder, 'hf'), '--tensors']);
      expect(table.stdout).toContain(`a.weight${SHOWN}\\nb`);
    });
  });
});

describe('on a terminal', () => {
  test.skipIf(noTerminal)("tables and notes are whole, with this command line's own colours", async () => {
    await withFolder(files, async (folder) => {
      const { lines, code } = await runInTerminal(['inspect', join(folder, 'hf'), '--tensors'], 200);
      expect(code).toBe(0);
      const text = lines.join('\n');
      expect(text).toContain(`a.weight${SHOWN}\\nb`);
      expect(text).toContain(`llama${SHOWN}`);
      expect(text).toContain('KV cache f16');
    });
  });

  test('generated text shows its control characters there, and goes into a pipe as it is', () => {
    const { stdout } = process;
    const write = vi.spyOn(stdout, 'write').mockReturnValue(true);
    const isTTY = Object.getOwnPropertyDescriptor(stdout, 'isTTY');
    try {
      for (const [terminal, text] of [
        [true, `a\n${SHOWN}`],
        [false, `a\n${EVIL}`],
      ] as const) {
        Object.defineProperty(stdout, 'isTTY', { value: terminal, configurable: true });
        writePiece(`a\n${EVIL}`);
        expect(write.mock.lastCall?.[0]).toBe(text);
      }
    } finally {
      write.mockRestore();
      if (isTTY === undefined) delete (stdout as { isTTY?: boolean }).isTTY;
      else Object.defineProperty(stdout, 'isTTY', isTTY);
    }
  });
});

describe('the functions below', () => {
  test('printable keeps newlines, tabs and every letter, and escapes what a terminal obeys', () => {
    expect(printable(EVIL)).toBe(SHOWN);
    expect(printable('a\n\tb é 漢字 🙂 עברית \u200f')).toBe('a\n\tb é 漢字 🙂 עברית \u200f');
    expect(printableLine('a\n\tb')).toBe('a\\n\\tb');
    const json = printableJson(JSON.stringify({ a: EVIL }));
    expect(json).not.toMatch(CONTROLS);
    expect(JSON.parse(json)).toEqual({ a: EVIL });
  });

  test('errors of files and HTML', () => {
    expect(new FormatError(`f${EVIL}`, 3, `got ${EVIL}`).message).toBe(`f${SHOWN}: at byte 3: got ${SHOWN}`);
    expect(escapeHtml(`<${EVIL}>`)).toBe(`&#60;${SHOWN}&#62;`);
  });
});
