/** `gqa generate` with several prompts, answers, beams, log probabilities, and speculation. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type CliRun, runCli } from './run-cli.ts';
import { withTinyCheckpoint } from './tiny-checkpoint.ts';

interface Answer {
  readonly prompt: number;
  readonly text: string;
  readonly tokens: readonly number[];
  readonly finishReason: string;
  readonly logprobs?: readonly number[];
  readonly topLogprobs?: readonly (readonly { token: number; logprob: number }[])[];
  readonly score?: number;
}

const tiny = (folder: string, ...args: string[]): Promise<CliRun> =>
  runCli(['generate', folder, '--backend', 'reference', '--max-tokens', '6', ...args]);
const answers = async (folder: string, ...args: string[]) =>
  (JSON.parse((await tiny(folder, ...args, '--json')).stdout) as { answers: Answer[] }).answers;
const alone = async (folder: string, ...args: string[]) =>
  (JSON.parse((await tiny(folder, ...args, '--json')).stdout) as Answer).tokens;

describe('gqa generate for several answers', () => {
  test('each line of --prompts gives what it gives alone, as JSON and as text', () =>
    withTinyCheckpoint({}, async (folder) => {
      const file = join(folder, 'prompts.txt');
      writeFileSync(file, 'hello\na longer line\n');
      const seed = ['--temperature', '1', '--seed', '7'];
      const got = await answers(folder, '--prompts', file, '--n', '2', ...seed);
      expect(got.map(({ prompt }) => prompt)).toEqual([0, 0, 1, 1]);
      expect(got[0].tokens).toEqual(await alone(folder, '--prompt', 'hello', ...seed));
      expect(got[2].tokens).toEqual(await alone(folder, '--prompt', 'a longer line', ...seed));
      const next = ['--temperature', '1', '--seed', '8'];
      expect(got[3].tokens).toEqual(await alone(folder, '--prompt', 'a longer line', ...next));

      const { stdout, stderr, code } = await tiny(folder, '--prompts', file, '--n', '2', ...seed);
      expect(code).toBe(0);
      expect(stdout).toContain('prompt 1: answer 1 of 2, length\n');
      expect(stdout).toContain('prompt 2: answer 2 of 2, length\n');
      expect(stderr).toMatch(/18 tokens of prompts, 24 generated, [\d.]+ tokens\/s with the prompts/);
    }));

  test('--logprobs and --top-logprobs, as JSON and as a table', () =>
    withTinyCheckpoint({}, async (folder) => {
      const flags = ['--prompt', 'hello', '--logprobs', '--top-logprobs', '2'];
      const [answer] = await answers(folder, ...flags);
      expect(answer.tokens).toEqual(await alone(folder, '--prompt', 'hello'));
      expect(answer.logprobs).toHaveLength(6);
      answer.topLogprobs!.forEach((top, i) => {
        expect(top[0]).toEqual({ token: answer.tokens[i], logprob: answer.logprobs![i] });
        expect(top).toHaveLength(2);
      });
      const { stdout } = await tiny(folder, ...flags);
      const [text, blank, head, first] = stdout.split('\n');
      expect([text, blank]).toEqual([answer.text, '']);
      expect(head).toMatch(/^token +id +logprob +most likely$/);
      expect(first).toContain(` ${answer.tokens[0]}  ${answer.logprobs![0].toFixed(4)}  `);
    }));

  test('--num-beams gives the best answers first, with their scores', () =>
    withTinyCheckpoint({}, async (folder) => {
      const flags = ['--prompt', 'hello', '--num-beams', '3', '--n', '2'];
      const got = await answers(folder, ...flags);
      expect(got).toHaveLength(2);
      expect(got[0].score).toBeGreaterThan(got[1].score!);
      expect((await tiny(folder, ...flags)).stdout).toContain(
        `prompt 1: answer 1 of 2, length, score ${got[0].score!.toFixed(4)}\n`,
      );
    }));

  test('--prompt-lookup and --draft change no token', () =>
    withTinyCheckpoint({}, async (folder) => {
      const want = await alone(folder, '--prompt', 'hello hello');
      for (const flags of [
        ['--prompt-lookup', '3'],
        ['--draft', folder],
      ]) {
        expect(await alone(folder, '--prompt', 'hello hello', ...flags)).toEqual(want);
        const [answer] = await answers(folder, '--prompt', 'hello hello', '--logprobs', ...flags);
        expect(answer.tokens).toEqual(want);
      }
    }));

  test('what contradicts is refused before loading', async () => {
    const refused = async (...args: string[]) => {
      const { code, stderr } = await tiny('/nowhere', ...args);
      expect(code).toBe(2);
      return stderr;
    };
    const prompt = ['--prompt', 'a'];
    expect(await refused(...prompt, '--prompts', 'b')).toContain('expected --prompt or --prompts, got both');
    expect(await refused(...prompt, '--num-beams', '2', '--n', '3')).toContain(
      'expected --n of at most --num-beams, which is 2, got 3',
    );
    expect(await refused(...prompt, '--num-beams', '2', '--temperature', '1')).toContain(
      'expected --temperature 0 with --num-beams, got 1',
    );
    expect(await refused(...prompt, '--num-beams', '2', '--draft', 'x')).toContain(
      'expected no --draft with --num-beams',
    );
    expect(await refused(...prompt, '--n', '2', '--context', '9')).toContain(
      'expected no --context with several answers or log probabilities, got 9',
    );
    expect(await refused(...prompt, '--draft', 'x', '--prompt-lookup', '2')).toContain(
      'expected --prompt-lookup or --draft, got both',
    );
  });

  test('a file of prompts has a prompt in each line', () =>
    withTinyCheckpoint({}, async (folder) => {
      const file = join(folder, 'prompts.txt');
      writeFileSync(file, 'one\n\nthree\n');
      const { code, stderr } = await tiny(folder, '--prompts', file);
      expect(code).toBe(1);
      expect(stderr).toContain(`gqa: ${file}: expected a prompt in each line, got an empty line 2\n`);
    }));
});
