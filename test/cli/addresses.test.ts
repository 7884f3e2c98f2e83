/** Commands on an address and on a hub's `org/name` print what they print for a path. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { type ModelServerOptions, withModelServer } from '../files/model-server.ts';
import { runCli } from './run-cli.ts';

const DEMO = fileURLToPath(new URL('../../demo/model', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'gqa-cli-address-'));
const textFile = join(folder, 'text.txt');
writeFileSync(textFile, 'Call me Ishmael. Some years ago, never mind how long precisely. '.repeat(4));
afterAll(() => rmSync(folder, { recursive: true }));

const files = Object.fromEntries(
  readdirSync(DEMO).flatMap((name) => {
    const bytes = readFileSync(join(DEMO, name));
    return ['/org/name/resolve/main', '/demo'].map((at) => [`${at}/${name}`, bytes] as const);
  }),
);

/** Runs `use` with the address of the model, its `org/name`, and the paths that are requested. */
function withModel(
  options: ModelServerOptions,
  use: (names: readonly string[], env: Record<string, string>, requests: string[]) => Promise<void>,
): Promise<void> {
  return withModelServer(files, options, ({ url, requests }) =>
    use([`${url}/demo/`, 'org/name'], { HF_ENDPOINT: url }, requests),
  );
}

const UPTRAIN = ['--data', textFile, '--steps', '1', '--block', '16', '--batch', '1'];
const COMMANDS: readonly (readonly [command: string, args: readonly string[]])[] = [
  ['generate', ['--prompt', 'Call me', '--max-tokens', '5']],
  ['eval', ['--data', textFile, '--context', '64']],
  ['inspect', []],
  ['plan', ['--context', '10', '--json']],
];

describe.each([
  ['ranges', {}],
  ['whole files', { ranges: false }],
])('a server with %s', (_, options) => {
  test.each(COMMANDS)('gqa %s', async (command, args) => {
    const local = await runCli([command, DEMO, ...args]);
    expect(local).toMatchObject({ code: 0, stdout: expect.stringMatching(/\S/) });
    await withModel(options, async (names, env) => {
      for (const name of names) {
        const { code, stdout } = await runCli([command, name, ...args], { env });
        expect({ code, stdout: stdout.replaceAll(name, DEMO) }).toEqual({ code: 0, stdout: local.stdout });
      }
    });
  });

  test('gqa convert', async () => {
    const convert = (from: string, to: string, env = {}) =>
      runCli(['convert', from, join(folder, to), '--kv-heads', '1', '--force'], { env });
    expect((await convert(DEMO, 'local')).code).toBe(0);
    await withModel(options, async (names, env) => {
      for (const name of names) {
        expect((await convert(name, 'remote', env)).code).toBe(0);
        for (const file of ['model.safetensors', 'config.json', 'tokenizer.json']) {
          const [got, expected] = ['remote', 'local'].map((to) => readFileSync(join(folder, to, file)));
          expect(got.equals(expected), file).toBe(true);
        }
      }
    });
  });
});

test('a download is one line on stderr; with --cache the second run makes no request', async () => {
  const args = ['--prompt', 'Call me', '--max-tokens', '5', '--cache', join(folder, 'cache')];
  await withModel({}, async (names, env, requests) => {
    for (const name of names) {
      const first = await runCli(['generate', name, ...args], { env });
      expect(first.stderr.split('\n').slice(0, 2)).toEqual([
        `fetching ${name}`,
        expect.stringMatching(/^loaded /),
      ]);
      expect(requests.length).toBeGreaterThan(0);
      requests.length = 0;
      const second = await runCli(['generate', name, ...args], { env });
      expect([second.code, second.stdout]).toEqual([0, first.stdout]);
      expect(requests).toEqual([]);
    }
  });
});

test.each([
  ['convert', (out: string) => [out, '--kv-heads', '1', '--calibrate', textFile, '--force']],
  ['uptrain', (out: string) => [...UPTRAIN, '--out', out]],
])('gqa %s: with --cache the second run makes no request', async (command, args) => {
  const cache = ['--cache', join(folder, `cache of ${command}`)];
  await withModel({}, async ([name], env, requests) => {
    for (const run of ['first', 'second']) {
      const { code, stderr } = await runCli([command, name, ...args(join(folder, command + run)), ...cache], {
        env,
      });
      expect([code, stderr]).toEqual([0, expect.any(String)]);
      if (run === 'first') expect(requests).toContain('/demo/model.safetensors 0-65535');
      else expect(requests).toEqual([]);
      requests.length = 0;
    }
  });
});

test('what is not there is one line that names the address', async () => {
  await withModel({}, async (_, env) => {
    const prompt = ['--prompt', 'a'];
    const none = await runCli(['generate', `${env.HF_ENDPOINT}/none.gguf`, ...prompt], { env });
    expect(none).toMatchObject({ code: 1, stdout: '' });
    expect(none.stderr).toMatch(/^fetching .*\ngqa: http.*\/none\.gguf: expected .* status 404\n$/);
    const hub = await runCli(['eval', 'org/none', '--data', textFile], { env });
    expect(hub).toMatchObject({ code: 1, stdout: '' });
    expect(hub.stderr).toMatch(/^fetching org\/none\ngqa: .*org\/none\/resolve\/main\/: expected [^\n]*\n$/);
    const path = await runCli(['generate', join(folder, 'none.gguf'), ...prompt], { env });
    expect(path.stderr).toMatch(/^gqa: .*got nothing there\n$/);
  });
});
