/** `gqa inspect` on small files that the test writes. */
import { spawnSync } from 'node:child_process';
import { closeSync, openSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { withFolder } from '../checkpoint/temporary-folder.ts';
import { buildGguf, buildSafetensors, smallSafetensors, stringPair, u32Pair } from '../format/build-files.ts';
import { GOLDEN } from '../models/golden.ts';
import { cliFile, runCli } from './run-cli.ts';

const config = {
  model_type: 'llama',
  num_hidden_layers: 2,
  num_attention_heads: 6,
  num_key_value_heads: 2,
  head_dim: 8,
  hidden_size: 48,
  intermediate_size: 64,
  vocab_size: 97,
  max_position_embeddings: 512,
};

const gguf = buildGguf({
  pairs: [
    stringPair('general.architecture', 'llama'),
    u32Pair('llama.block_count', 1),
    u32Pair('llama.context_length', 2048),
    u32Pair('llama.embedding_length', 64),
    u32Pair('llama.feed_forward_length', 128),
    u32Pair('llama.attention.head_count', 4),
    u32Pair('llama.attention.head_count_kv', 1),
  ],
  tensors: [
    { name: 'token_embd.weight', dims: [64, 3], type: 8, offset: 0 },
    { name: 'blk.0.attn_norm.weight', dims: [64], type: 0, offset: 224 },
  ],
  // 3 rows of 2 blocks of 34 bytes, rounded up to 32; then 64 floats.
  dataBytes: 224 + 256,
});

/** The cells of the line that begins with `name`. */
function line(output: string, name: string): string[] {
  const found = output.split('\n').find((text) => text.startsWith(`${name} `));
  return (found ?? '').split(/ {2,}/);
}

describe('gqa inspect', () => {
  const directory = { 'config.json': JSON.stringify(config), 'model.safetensors': smallSafetensors() };

  test('a Hugging Face directory', () =>
    withFolder(directory, async (folder) => {
      const { code, stdout, stderr } = await runCli(['inspect', folder]);
      expect(stderr).toBe('');
      expect(line(stdout, 'family')).toEqual(['family', 'llama']);
      expect(line(stdout, 'layers').slice(0, 2)).toEqual(['layers', '2']);
      expect(line(stdout, 'N').slice(0, 2)).toEqual(['N', '6']);
      expect(line(stdout, 'K').slice(0, 2)).toEqual(['K', '2']);
      expect(line(stdout, 'G').slice(0, 2)).toEqual(['G', '3']);
      expect(line(stdout, 'G')[2]).toContain('grouped-query attention');
      expect(line(stdout, 'H').slice(0, 2)).toEqual(['H', '8']);
      expect(line(stdout, 'context').slice(0, 2)).toEqual(['context', '512']);
      // 2 layers, K and V, 2 heads of 8 values.
      expect(line(stdout, 'KV cache f32')[1]).toBe('256 bytes');
      expect(line(stdout, 'KV cache f16')[1]).toBe('128 bytes');
      expect(line(stdout, 'bf16')).toEqual(['bf16', '3', '6', '1']);
      expect(line(stdout, 'all')).toEqual(['all', '10', '19', '3']);
      expect(stdout).not.toContain('a.weight');
      expect(code).toBe(0);
    }));

  test.each([
    ['tiny-gemma4_text/keys', 'K', '2 to 4'],
    ['tiny-gemma4_text/keys', 'G', '1 to 2', 'query heads per key/value head: grouped-query attention'],
    ['tiny-gemma4_text/keys', 'H', '8 to 16'],
    ['tiny-llama4_text/plain', 'layers', '4', '3 chunked over 9 tokens, 1 full'],
  ])('layers that differ: %s, %s', async (name, ...cells) => {
    const { stdout } = await runCli(['inspect', join(GOLDEN, name)]);
    expect(line(stdout, cells[0]).slice(0, cells.length)).toEqual(cells);
  });

  test('--tensors lists every tensor', () =>
    withFolder(directory, async (folder) => {
      const { stdout } = await runCli(['inspect', folder, '--tensors']);
      expect(line(stdout, 'b.weight')).toEqual(['b.weight', 'bf16', '[3, 1]', '6']);
      expect(
        stdout
          .trimEnd()
          .split('\n')
          .slice(-3)
          .map((text) => text.split(' ')[0]),
      ).toEqual(['a.weight', 'b.weight', 'c.weight']);
    }));

  test('--json is one object', () =>
    withFolder({ 'model.gguf': gguf }, async (folder) => {
      const { code, stdout, stderr } = await runCli([
        'inspect',
        `${folder}/model.gguf`,
        '--json',
        '--tensors',
      ]);
      expect(stderr).toBe('');
      expect(code).toBe(0);
      expect(JSON.parse(stdout)).toMatchObject({
        path: `${folder}/model.gguf`,
        format: 'gguf',
        family: 'llama',
        numLayers: 1,
        numHeads: 4,
        numKeyValueHeads: 1,
        groupSize: 4,
        headDim: 16,
        hiddenSize: 64,
        contextLength: 2048,
        parameters: 256,
        bytes: 460,
        dtypes: {
          q8_0: { tensors: 1, parameters: 192, bytes: 204 },
          f32: { tensors: 1, parameters: 64, bytes: 256 },
        },
        kvBytesPerToken: { f32: 128, f16: 64 },
        tensors: [
          { name: 'token_embd.weight', dtype: 'q8_0', shape: [3, 64], byteLength: 204 },
          { name: 'blk.0.attn_norm.weight', dtype: 'f32', shape: [64], byteLength: 256 },
        ],
      });
    }));

  test('weights without a config: the tensors, and why there is no more', () =>
    withFolder({ 'a.safetensors': smallSafetensors() }, async (folder) => {
      const { code, stdout, stderr } = await runCli(['inspect', `${folder}/a.safetensors`]);
      expect(stdout).toContain('bf16');
      expect(stdout).not.toContain('family');
      expect(stderr).toMatch(/^gqa: .*config\.json.*; only the tensors are shown\n$/);
      expect(code).toBe(0);
    }));

  test('a damaged file is one line with its name and the byte', () =>
    withFolder({ 'model.gguf': gguf.subarray(0, 100) }, async (folder) => {
      const file = `${folder}/model.gguf`;
      const { code, stdout, stderr } = await runCli(['inspect', file]);
      expect(stdout).toBe('');
      expect(stderr).toMatch(/^gqa: [^\n]*: at byte \d+: expected [^\n]*\n$/);
      expect(stderr).toContain(file);
      expect(code).toBe(1);
      const { stderr: withStack } = await runCli(['inspect', file], { env: { GQA_DEBUG: '1' } });
      expect(withStack).toMatch(/^gqa: FormatError: .*\n +at /);
    }));

  test('nothing there', async () => {
    const { code, stdout, stderr } = await runCli(['inspect', '/nowhere/model.gguf']);
    expect(stdout).toBe('');
    expect(stderr).toMatch(/^gqa: \/nowhere\/model\.gguf: [^\n]*\n$/);
    expect(code).toBe(1);
  });

  test('a named pipe is refused at once, without waiting for its writer', () =>
    withFolder({}, async (folder) => {
      const pipe = `${folder}/model.gguf`;
      expect(spawnSync('sh', ['-c', 'mkfifo "$0"', pipe]).status).toBe(0);
      for (const command of ['inspect', 'plan']) {
        const { code, stderr } = await runCli([command, pipe]);
        expect(stderr).toBe(`gqa: ${pipe}: expected a regular file, got a pipe, a device or a folder\n`);
        expect(code).toBe(1);
      }
    }));

  test('symbolic links in a circle are described', () =>
    withFolder({}, async (folder) => {
      const link = `${folder}/model.safetensors`;
      symlinkSync('model.safetensors', link);
      const { code, stderr } = await runCli(['inspect', folder]);
      expect([code, stderr]).toEqual([1, `gqa: ${link}: cannot open: symbolic links in a circle (ELOOP)\n`]);
    }));

  test('what the file system refuses is told in words, the place first', () =>
    withFolder({}, async (folder) => {
      const nowhere = `${folder}/no`;
      for (const [path, error] of [
        [`${nowhere}/x.html`, `${nowhere}: cannot write there: no such file or folder (ENOENT)`],
        [folder, `${folder}: expected a regular file, got a pipe, a device or a folder`],
      ]) {
        const { code, stderr } = await runCli(['plan', 'llama-3-8b', '--html', path]);
        expect([code, stderr]).toEqual([1, `gqa: ${error}\n`]);
      }
    }));

  test.runIf(process.platform === 'linux')('a full disk is one line, not a stack', () =>
    withFolder(directory, async (folder) => {
      const full = openSync('/dev/full', 'w');
      const { status, stderr } = spawnSync(process.execPath, [cliFile, 'inspect', folder], {
        stdio: ['ignore', full, 'pipe'],
        encoding: 'utf8',
      });
      closeSync(full);
      expect(stderr).toBe('gqa: cannot write: no space left on the disk (ENOSPC)\n');
      expect(status).toBe(1);
    }),
  );

  test('a reader that leaves early is no failure', () => {
    const header: Record<string, object> = {};
    for (let i = 0; i < 20_000; i++)
      header[`tensor.${i}`] = { dtype: 'U8', shape: [0], data_offsets: [0, 0] };
    const files = { 'config.json': JSON.stringify(config), 'many.safetensors': buildSafetensors(header) };
    return withFolder(files, async (folder) => {
      const command = `"$0" "$1" inspect "$2" --tensors --json | head -c 10; exit \${PIPESTATUS[0]}`;
      const args = ['-c', command, process.execPath, cliFile, `${folder}/many.safetensors`];
      const { status, stdout, stderr } = spawnSync('bash', args, { encoding: 'utf8' });
      expect(stdout).toBe('{"path":"/');
      expect(stderr).toBe('');
      expect(status).toBe(0);
    });
  });
});
