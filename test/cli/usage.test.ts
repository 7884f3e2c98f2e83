/** Wrong usage of the command line, and its help. */
import { describe, expect, test } from 'vitest';
import { runCli } from './run-cli.ts';

const prompt = ['--prompt', 'x'];

describe('wrong usage ends with exit code 2 and one line', () => {
  test.concurrent.each([
    [['frobnicate'], "gqa: unknown command 'frobnicate'"],
    [['inspekt'], "gqa: unknown command 'inspekt' (Did you mean inspect?)"],
    [['--frob'], "gqa: unknown option '--frob'"],
    [['inspect'], "gqa: missing required argument 'checkpoint'"],
    [['inspect', 'a', 'b'], 'gqa: too many arguments'],
    [['inspect', 'a', '--tensor'], "gqa: unknown option '--tensor' (Did you mean --tensors?)"],
    [['generate', 'm.gguf'], "gqa: required option '--prompt <text>' not specified"],
    [['generate', 'm.gguf', '--prompt', ''], 'gqa: expected a prompt of at least one character, got none'],
    [['generate', 'm.gguf', '--prompt', '-'], 'gqa: expected a prompt of at least one character, got none'],
    [['generate', 'm.gguf', ...prompt, '--system', 'y'], 'gqa: --system needs --chat'],
    [['generate', '', ...prompt], 'Expected a path of at least one character.'],
    [['inspect', ''], 'Expected a path of at least one character.'],
    [['convert', 'a', '', '--kv-heads', '1'], 'Expected a path of at least one character.'],
    [
      ['convert', 'a', 'b', '--kv-heads', '1', '--calibrate', ''],
      'Expected a path of at least one character.',
    ],
    [
      ['convert', 'a', 'b', '--kv-heads', '1', '--calibrate', 'c', '--report', ''],
      'Expected a path of at least one character.',
    ],
    [['eval', 'a', '--data', ''], 'Expected a path of at least one character.'],
    [['train', '--data', '', '--out', 'a'], 'Expected a path of at least one character.'],
    [['train', '--data', 'a', '--out', 'b', '--tokenizer', ''], 'Expected a path of at least one character.'],
    [['uptrain', 'a', '--data', '', '--out', 'b'], 'Expected a path of at least one character.'],
    [['plan', 'llama-3-8b', '--html', ''], 'Expected a path of at least one character.'],
    [['demo', '--out', ''], 'Expected a path of at least one character.'],
    [['play', '', '--port', '0'], 'Expected a path of at least one character.'],
    [['play', '--port', '65536'], 'Expected a whole number from 0 to 65535.'],
    [['generate', 'm.gguf', ...prompt, '--max-tokens', '1.5'], 'Expected a whole number of at least 0.'],
    [['generate', 'm.gguf', ...prompt, '--temperature', '-1'], 'Expected a number of at least 0.'],
    [['generate', 'm.gguf', ...prompt, '--top-k', '0'], 'Expected a whole number of at least 1.'],
    [['generate', 'm.gguf', ...prompt, '--top-p', '0'], 'Expected a number above 0 and up to 1.'],
    [['generate', 'm.gguf', ...prompt, '--min-p', '1.1'], 'Expected a number from 0 to 1.'],
    [['generate', 'm.gguf', ...prompt, '--typical-p', '0'], 'Expected a number above 0 and up to 1.'],
    [['generate', 'm.gguf', ...prompt, '--repetition-penalty', '0'], 'Expected a number above 0.'],
    [['generate', 'm.gguf', ...prompt, '--presence-penalty', '2.5'], 'Expected a number from -2 to 2.'],
    [['generate', 'm.gguf', ...prompt, '--frequency-penalty', 'x'], 'Expected a number from -2 to 2.'],
    [
      ['generate', 'm.gguf', ...prompt, '--no-repeat-ngram-size', '0'],
      'Expected a whole number of at least 1.',
    ],
    [['generate', 'm.gguf', ...prompt, '--min-new-tokens', '-1'], 'Expected a whole number of at least 0.'],
    [
      ['generate', 'm.gguf', ...prompt, '--min-new-tokens', '300'],
      'expected --min-new-tokens up to --max-tokens, which is 256, got 300',
    ],
    ...['5', '5=', '=1', '5=x', '5=inf', '-5=1', '5=1,5=2', '5=1,', '5=--1'].map(
      (bias): [string[], string] => [
        ['generate', 'm.gguf', ...prompt, '--logit-bias', bias],
        'Expected token ids with a number each, every id once, such as 15=-2.5,7=-inf.',
      ],
    ),
    [['generate', 'm.gguf', ...prompt, '--seed', ''], 'Expected a whole number of at least 0.'],
    [['generate', 'm.gguf', ...prompt, '--stop', ''], 'Expected a text of at least one character.'],
    [['generate', 'm.gguf', ...prompt, '--threads', '65'], 'Expected a whole number from 1 to 64.'],
    [['generate', 'm.gguf', ...prompt, '--kv-dtype', 'q4_0'], 'Allowed choices are f32, f16, bf16, q8_0.'],
    [['generate', 'm.gguf', ...prompt, '--backend', 'cuda'], 'Allowed choices are native, wasm, reference.'],
  ])('%j', async (args, message) => {
    const { code, stdout, stderr } = await runCli(args);
    expect(stderr).toContain(message);
    expect(stderr).toMatch(/^gqa: [^\n]*\n$/);
    expect(stdout).toBe('');
    expect(code).toBe(2);
  });

  test('no command: the help on stderr', async () => {
    const { code, stdout, stderr } = await runCli([]);
    expect(stderr).toContain('Usage: gqa');
    expect(stdout).toBe('');
    expect(code).toBe(2);
  });
});

describe('help', () => {
  test.each([[[]], [['inspect']], [['plan']], [['generate']]])(
    '%j --help ends with an example',
    async (command) => {
      const { code, stdout, stderr } = await runCli([...command, '--help']);
      const last = stdout.trimEnd().split('\n').at(-1);
      expect(stdout).toMatch(/^Usage: gqa/);
      expect(last).toMatch(new RegExp(`npx gqa ${command[0] ?? 'inspect'} `));
      expect(stderr).toBe('');
      expect(code).toBe(0);
    },
  );

  test('--version', async () => {
    const { code, stdout } = await runCli(['--version']);
    expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect(code).toBe(0);
  });
});
