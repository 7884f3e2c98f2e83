/** `gqa plan` as a process: presets, files, a web server and a hub; its JSON, its page and its errors. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { withFolder } from '../checkpoint/temporary-folder.ts';
import { GOLDEN } from '../models/golden.ts';
import { withServer } from '../plan/file-server.ts';
import { config, largeGguf } from '../plan/models.ts';
import { runCli } from './run-cli.ts';

const plan = (...args: string[]) => runCli(['plan', ...args]);

describe('gqa plan', () => {
  test('a preset as a table: both units, what fits, what fewer heads give', async () => {
    const { code, stdout, stderr } = await plan('llama-3-8b', '--context', '8192', '--memory', '24GiB');
    expect(stderr).toBe('');
    expect(code).toBe(0);
    expect(stdout).toMatch(/total +1,073,741,824 bytes \(1\.07 GB, 1\.0 GiB\)/);
    expect(stdout).toMatch(/32 +full +8,192 +33,554,432 +1,073,741,824 +1\.0 GiB/);
    expect(stdout).toMatch(/longest context +196,608 tokens, beyond the model's 8,192 \(batch 1\)/);
    expect(stdout).toMatch(/largest batch +24 \(at 8,192 tokens\)/);
    for (const K of [32, 8, 4, 2, 1]) expect(stdout).toMatch(new RegExp(`^(MHA|GQA|MQA) +${K} `, 'm'));
    expect(stdout).toMatch(/^GQA +8 .* as it is$/m);
  });

  test('the layers of a batch add up to its total', async () => {
    const { stdout } = await plan('llama-3-8b', '--context', '8192', '--batch', '4');
    expect(stdout).toMatch(/total +4,294,967,296 bytes/);
    expect(stdout).toMatch(/32 +full +8,192 +134,217,728 +4,294,967,296 +4\.0 GiB/);
  });

  test('JSON has these keys and no others', async () => {
    const { code, stdout } = await plan(
      ...['gemma-3-1b', '--context', '4096', '--batch', '3', '--kv-dtype', 'q8_0', '--json'],
    );
    expect(code).toBe(0);
    const { layers, memory, ...rest } = JSON.parse(stdout);
    const perToken = 26 * 2 * 8 * 34;
    const perSequence = (22 * 512 + 4 * 4096) * 2 * 8 * 34;
    expect(rest).toEqual({
      model: 'gemma-3-1b',
      runtime: 'exact',
      contextLength: 4096,
      batchSize: 3,
      kvDtype: 'q8_0',
      isModelContext: false,
      bytesPerToken: perToken,
      bytesPerSequence: perSequence,
      totalBytes: 3 * perSequence,
      warnings: [],
    });
    expect(layers.length).toBe(26);
    const { weights, activations, totalBytes } = memory;
    expect(Object.keys(memory)).toEqual(['weights', 'activations', 'totalBytes', 'bytesPerRank']);
    expect(totalBytes).toBe(weights.bytes + activations.bytes + rest.totalBytes);
    expect(layers[0]).toEqual({ kind: 'sliding', tokens: 512, bytes: 512 * 2 * 8 * 34 });
  });

  test('weights, what fits beside them, and speed', async () => {
    const args = ['llama-3-8b', '--weights', 'q4_k', '--total-memory', '16GiB', '--device', 'm2', '--html'];
    await withFolder({}, async (folder) => {
      const page = join(folder, 'page.html');
      const { code, stdout } = await plan(...args, page);
      expect(code).toBe(0);
      expect(stdout).toMatch(/8,192 tokens +batch 1, the model's whole context \(--context sets another\)/);
      expect(stdout).toMatch(
        /^weights +4,912,898,048 +4\.6 GiB +sizes of the config, llama\.cpp's q4_k mixture/m,
      );
      expect(stdout).toMatch(/^mlp +q4_k +4,697,620,480 /m);
      expect(stdout).toMatch(/longest context +\d\d,\d{3} tokens/);
      expect(stdout).toMatch(/^decode +\d+(\.\d)? tokens\/s +behind 8,192 tokens, batch 1/m);
      expect(stdout).not.toMatch(/^prefill/m); // Apple states no FLOP/s
      const html = await readFile(page, 'utf8');
      expect(html).toContain('Weights by kind and type');
      expect(html).toContain('tokens per second');
      expect(html).not.toMatch(/NaN|undefined|Infinity/);
    });
    const json = await plan(...args.slice(0, 5), '--bandwidth', '50GB/s', '--flops', '10T', '--json');
    const { totalMemory, speed, device, isModelContext } = JSON.parse(json.stdout);
    expect(isModelContext).toBe(true);
    expect(totalMemory.memoryBytes).toBe(16 * 2 ** 30);
    expect(device).toEqual({ bandwidth: 50e9, flops: 10e12 });
    expect(speed.decode.tokensPerSecond).toBeGreaterThan(5);
    expect(speed.prefill.tokensPerSecond).toBeGreaterThan(100);
  });

  test('--device this measures', async () => {
    const args = ['smollm2-135m', '--context', '128', '--weights', 'q8_0', '--device', 'this', '--json'];
    const { code, stdout } = await plan(...args);
    expect(code).toBe(0);
    const { device, speed } = JSON.parse(stdout);
    expect(device.bandwidth).toBeGreaterThan(1e8);
    expect(device.flops).toBeGreaterThan(1e9);
    expect(speed.decode.tokensPerSecond).toBeGreaterThan(0.1);
    const none = await plan('smollm2-135m', '--weights', 'iq2_xxs', '--device', 'this');
    expect(none.stderr).toMatch(/expected --weights of a type with kernels for --device this, got iq2_xxs/);
  });

  test('--devices', async () => {
    const { stdout } = await plan('--devices');
    expect(stdout).toMatch(
      /^rtx-4090 +NVIDIA GeForce RTX 4090 +1008 +165\.2 +AlexsJones\/llmfit .*; karpathy\/llm\.c /m,
    );
    expect(JSON.parse((await plan('--devices', '--json')).stdout).devices.length).toBeGreaterThan(10);
  });

  test('what if: other heads, another runtime', async () => {
    const heads = await plan('llama-2-70b', '--context', '4096', '--kv-heads', '64', '--json');
    expect(JSON.parse(heads.stdout).totalBytes).toBe(10 * 2 ** 30);
    const other = await plan('smollm2-135m', '--context', '1000', '--runtime', 'llama.cpp', '--json');
    expect(JSON.parse(other.stdout).totalBytes).toBe(22.5 * 2 ** 20);
    const apart = await plan('smollm2-135m', '--context', '1', '--kv-dtype', 'q8_0/f16', '--json');
    expect(JSON.parse(apart.stdout)).toMatchObject({ kvDtype: 'q8_0/f16', totalBytes: 30 * 3 * (68 + 128) });
  });

  test('files, and a page that needs nothing else', async () => {
    await withFolder({ 'm & m.gguf': largeGguf(), 'hf/config.json': config }, async (folder) => {
      const page = join(folder, 'page.html');
      const { code, stdout, stderr } = await plan(join(folder, 'm & m.gguf'), '--html', page);
      expect(code).toBe(0);
      expect(stderr).toBe(`wrote ${page}\n`);
      expect(stdout).toMatch(/N=12, K=4, H=24/);
      const html = await readFile(page, 'utf8');
      expect(html).toContain('m &#38; m.gguf');
      // Five curves, drawn for a page with room and for a narrow one.
      expect(html.match(/<polyline/g)?.length).toBe(10);
      expect(html).not.toMatch(/<script|https?:|NaN|undefined|Infinity/);
      const directory = await plan(join(folder, 'hf'), '--json');
      expect(JSON.parse(directory.stdout).totalBytes).toBe(5 * 512 * 2 * 96 * 2);
    });
  });

  test('URLs and hub ids', async () => {
    const files = { '/m.gguf': largeGguf(), '/org/name/resolve/main/config.json': config };
    await withServer(files, {}, async (server) => {
      const url = await plan(`${server.url}/m.gguf`, '--json');
      expect(JSON.parse(url.stdout)).toMatchObject({ bytesPerToken: 5 * 2 * 96 * 2, contextLength: 512 });
      const env = { HF_ENDPOINT: server.url };
      // One beginning for the kind of file, one read of the header for shape and weights.
      expect(server.ranges).toEqual(['bytes=0-65535', 'bytes=0-1048575']);
      const hub = await runCli(['plan', 'org/name', '--json'], { env });
      expect(JSON.parse(hub.stdout)).toMatchObject({ model: 'org/name', totalBytes: 512 * 5 * 2 * 96 * 2 });
      const none = await runCli(['plan', 'meta/lama-3-8b'], { env });
      expect(none.code).toBe(1);
      expect(none.stderr).toMatch(
        /^gqa: meta\/lama-3-8b: expected a preset, a path or a hub id; .*expected config.json or one .gguf file in it, got 0 .gguf files; similar presets: llama-3-8b.*\n$/,
      );
    });
    await withServer({ '/m.gguf': largeGguf() }, { ranges: false }, async (server) => {
      const { code, stdout } = await plan(`${server.url}/m.gguf`, '--json');
      expect(code).toBe(0);
      expect(JSON.parse(stdout)).toMatchObject({ bytesPerToken: 5 * 2 * 96 * 2, contextLength: 512 });
    });
  });

  test('--list', async () => {
    const { stdout } = await plan('--list');
    expect(stdout.trim().split('\n').length).toBe(121);
    expect(stdout).toMatch(/^deepseek-v3 .* latent /m);
    const json = JSON.parse((await plan('--list', '--json')).stdout);
    expect(json.presets.length).toBe(120);
  });

  test.each([
    [['lama-3-8b'], 2, /expected a preset .* got "lama-3-8b"; similar presets: llama-3-8b/],
    [[], 2, /expected a model, or --list/],
    [['llama-3-8b', '--context', '-5'], 2, /Expected a whole number of at least 1/],
    [['llama-3-8b', '--kv-dtype', 'i32'], 2, /Expected one of f32/],
    [['llama-3-8b', '--memory', '24'], 2, /Expected a size with its unit, such as 24GiB/],
    [['llama-3-8b', '--device', 'abacus'], 2, /Expected one of this, a100-80gb/],
    ...['50GB', '50Gb/s', '0GB/s', '-5GB/s', '1e3GB/s'].map(
      (size) =>
        [
          ['llama-3-8b', '--bandwidth', size],
          2,
          /Expected bytes per second above 0, such as 100GB\/s/,
        ] as const,
    ),
    [['llama-3-8b', '--flops', '1T'], 2, /expected --bandwidth beside --flops/],
    [
      ['llama-3-8b', '--device', 'm2', '--bandwidth', '1GB/s'],
      2,
      /expected --device, or --bandwidth and --flops/,
    ],
    [['llama-3-8b', '--threads', '2'], 2, /expected --threads with --device this, got no --device/],
    [
      ['llama-3-8b', '--backend', 'wasm', '--device', 'm2'],
      2,
      /expected --backend with --device this, got --device m2/,
    ],
    [['llama-3-8b', '--list'], 2, /expected --list alone or with --json, got "llama-3-8b"/],
    [['--devices', '--context', '8', '--list'], 2, /expected --list alone .*, got --context, --devices/],
    [
      ['llama-3-8b', '--block-size', '16', '--runtime', 'llama.cpp'],
      2,
      /expected --block-size with runtime exact or vllm, got 16 with llama.cpp/,
    ],
    [
      ['llama-3-8b', '--tensor-parallel', '2', '--runtime', 'llama.cpp'],
      2,
      /expected --tensor-parallel 1 for llama.cpp, got 2/,
    ],
    [
      ['llama-3-8b', '--kv-dtype', 'q4_0', '--runtime', 'transformers'],
      2,
      /transformers: expected --kv-dtype f32, f16, bf16, got q4_0/,
    ],
    [
      ['llama-3-8b', '--html', 'nowhere/page.html', '--device', 'this'],
      1,
      /nowhere: cannot write there: no such file or folder/,
    ],
    [['llama-3-8b', '--memory', '1KiB'], 2, /expected --memory for one token, 131072 bytes, got 1024/],
    [['llama-3-8b', '--kv-heads', '5'], 2, /expected --kv-heads to divide the query heads N=32, got K=5/],
    [['./nowhere.gguf'], 1, /\.\/nowhere\.gguf: expected a config\.json, .* got nothing there/],
  ] as const)('%j', async (args, status, message) => {
    const { code, stdout, stderr } = await plan(...args);
    expect(code).toBe(status);
    expect(stdout).toBe('');
    expect(stderr).toMatch(message);
    expect(stderr.trimEnd().split('\n').length).toBe(1);
  });

  test('a page replaces a page, and no other file', async () => {
    await withFolder({ 'model.safetensors': 'weights', 'notes.html': 'mine' }, async (folder) => {
      const page = join(folder, 'page.html');
      for (let i = 0; i < 2; i++) expect((await plan('llama-3-8b', '--html', page)).code).toBe(0);
      for (const [name, content] of [
        ['model.safetensors', 'weights'],
        ['notes.html', 'mine'],
      ]) {
        const { code, stderr } = await plan('llama-3-8b', '--html', join(folder, name));
        expect([code, stderr]).toEqual([
          1,
          expect.stringMatching(/expected nothing there, or a page to replace/),
        ]);
        expect(await readFile(join(folder, name), 'utf8')).toBe(content);
      }
    });
  });

  test('a figure stands once, and in words where it is nothing or below the unit', async () => {
    const small = { ...JSON.parse(config), num_hidden_layers: 1, head_dim: 8 };
    await withFolder({ 'config.json': JSON.stringify(small) }, async (folder) => {
      const { stdout } = await plan(folder, '--total-memory', '1B', '--bandwidth', '1B/s');
      expect(stdout).toMatch(/^per token +128 bytes +all cached layers/m);
      expect(stdout).toMatch(/^MLA +[\d.]+ KiB .* 3 times$/m);
      expect(stdout).toMatch(/^MHA .* 1$/m);
      expect(stdout).toMatch(/^longest context +none: not one token fits/m);
      expect(stdout).toMatch(/^largest batch +none: not one sequence fits/m);
      expect(stdout).toMatch(/^device +1 B\/s/m);
      expect(stdout).toMatch(/^decode +below 0\.001 tokens\/s/m);
      expect(stdout).not.toMatch(/\d bytes +\d+ bytes|e[+-]\d|NaN|Infinity/);
    });
  });

  test.each([
    ['hidden_size', null, 'expected an integer >= 1, got null'],
    ['hidden_size', 0, 'expected an integer >= 1, got 0'],
    ['hidden_size', 1.5, 'expected an integer >= 1, got 1.5'],
    ['hidden_size', 1e300, 'expected an integer below 2^53, got 1e+300'],
    ['hidden_size', 'x', 'expected an integer >= 1, got "x"'],
    ['intermediate_size', 0, 'expected an integer >= 1, got 0'],
    ['model_type', ['x'], 'expected a string, got an array'],
  ])('a config with %s %j', async (key, value, message) => {
    const text = JSON.stringify({ ...JSON.parse(config), [key]: value });
    await withFolder({ 'config.json': text }, async (folder) => {
      const { code, stderr } = await plan(folder);
      expect([code, stderr]).toEqual([1, `gqa: ${folder}/config.json: ${key}: ${message}\n`]);
    });
  });

  test('chunked layers are not called sliding', async () => {
    const { stdout } = await plan('llama-4-scout', '--context', '100000');
    expect(stdout).toMatch(/^ *36 +chunked +8,192 /m);
    const keys = await plan(join(GOLDEN, 'tiny-gemma4_text/keys'));
    expect(keys.stdout).toMatch(/N=4, K=2 to 4, H=8 to 16/);
  });

  test('broken files and warnings', async () => {
    const files = {
      'config.json': '{"hidden_size": 64, "num_hidden_layers": 2}',
      'cut.gguf': largeGguf().slice(0, 99),
      'null/config.json': JSON.stringify({ ...JSON.parse(config), num_attention_heads: null }),
      'bare/config.json': JSON.stringify({ ...JSON.parse(config), vocab_size: null }),
    };
    await withFolder(files, async (folder) => {
      const heads = await plan(join(folder, 'config.json'), '--context', '5');
      expect(heads).toMatchObject({ code: 1, stdout: '' });
      expect(heads.stderr).toMatch(/^gqa: .*config\.json: one of num_attention_heads.* got no such key\n$/);
      const isNull = await plan(join(folder, 'null'));
      expect(isNull).toMatchObject({ code: 1, stdout: '' });
      expect(isNull.stderr).toMatch(/json: num_attention_heads: expected an integer >= 1, got null\n$/);
      const bare = await plan(join(folder, 'bare'));
      expect(bare).toMatchObject({ code: 1, stdout: '' });
      expect(bare.stderr).toMatch(/expected vocab_size of a model whose weights are counted, got none\n$/);
      const cut = await plan(join(folder, 'cut.gguf'));
      expect(cut).toMatchObject({ code: 1, stdout: '' });
      expect(cut.stderr).toMatch(/^gqa: .*cut\.gguf: at byte \d+: .*\n$/);
    });
    const unknown = { ...JSON.parse(config), kv_stride: 3 };
    await withFolder({ 'config.json': JSON.stringify(unknown) }, async (folder) => {
      const page = join(folder, 'page.html');
      const doubt = 'the cache may be of another size: unknown keys: kv_stride (3)';
      const { code, stdout, stderr } = await plan(join(folder, 'config.json'), '--json', '--html', page);
      expect(code).toBe(0);
      expect(stderr).toContain(`gqa: warning: ${doubt}\n`);
      expect(JSON.parse(stdout).warnings).toEqual([doubt]);
      expect(await readFile(page, 'utf8')).toContain(doubt);
      const seen = await runCli(['inspect', folder, '--json']);
      if (seen.code === 0) expect(JSON.parse(seen.stdout).warnings).toEqual([doubt]);
    });
    const far = await plan('llama-3-8b', '--context', '10000', '--json');
    expect(far.code).toBe(0);
    expect(far.stderr).toBe("gqa: warning: a context of 10000 tokens is beyond the model's 8192\n");
  });
});
