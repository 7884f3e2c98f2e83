/** `gqa chat`: through a pipe, and in a terminal with its keys. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { chat, loadModel } from '../../src/models/index.ts';
import { textOf } from '../models/chat/tiny-chat.ts';
import { type CliRun, runCli } from './run-cli.ts';
import { noTerminal, runInTerminal } from './terminal.ts';
import { withTinyCheckpoint } from './tiny-checkpoint.ts';

const reference = ['--backend', 'reference'];
const run = (folder: string, stdin: string, ...args: string[]): Promise<CliRun> =>
  runCli(['chat', folder, ...reference, ...args], { stdin });
/** What moves the cursor or colours. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: escapes begin with one
const ESCAPES = /\u001b\[[0-9;?]*[A-Za-z]/g;
const lines = (text: string) => text.trimEnd().split('\n');

describe('one message per line of stdin', () => {
  test('the answers of the library, one after another', () =>
    withTinyCheckpoint({}, async (folder) => {
      const model = await loadModel(folder, { backend: 'reference' });
      const talk = chat(model, { system: 'Hm.', maxNewTokens: 6, temperature: 2, topP: 0.9, seed: 4 });
      const answers = [await textOf(talk.send('One?')), await textOf(talk.send('Two?'))];
      const args = ['--system', 'Hm.', '--max-tokens', '6', '--temperature', '2', '--top-p', '0.9'];
      const { code, stdout, stderr } = await run(folder, 'One?\n\nTwo?', ...args, '--seed', '4');
      expect([code, stdout]).toEqual([0, `${answers.join('\n')}\n`]);
      expect(lines(stderr)[0]).toMatch(/^loaded .* on reference/);
      expect(lines(stderr).slice(1)).toEqual(['(reached --max-tokens)', '(reached --max-tokens)']);

      const json = await run(folder, 'One?\nTwo?\n', ...args, '--seed', '4', '--json');
      const turns = lines(json.stdout).map((line) => JSON.parse(line));
      expect(turns.map(({ text }) => text)).toEqual(answers);
      expect(turns[1]).toMatchObject({ newTokens: 6, finishReason: 'length' });
      expect(turns[1].reusedTokens).toBeGreaterThan(0);
      talk.dispose();
      model.dispose();
    }));

  test('/save, /load, --load, /reset and /stats', () =>
    withTinyCheckpoint({}, async (folder) => {
      const place = join(folder, 'talk');
      const args = ['--max-tokens', '5', '--temperature', '3', '--seed', '1'];
      const whole = await run(folder, `One?\n/save ${place}\nTwo?\n/stats\n`, ...args);
      const [, second] = lines(whole.stdout);
      expect(whole.stderr).toContain(`saved 2 messages in ${place}\n`);
      expect(whole.stderr).toMatch(/^last turn: \d+ new tokens read at .* in the cache; 5 answered at /m);
      expect(whole.stderr).toMatch(/^chat: {6}4 messages; \d+ tokens fed$/m);
      expect(whole.stderr).toMatch(
        /^KV cache: {2}\d+ of 256 tokens \(\d+ %\), 98,304 bytes \(96.0 KiB\), f32$/m,
      );
      const { messages, options } = JSON.parse(readFileSync(join(place, 'chat.json'), 'utf8'));
      expect([messages.length, options.temperature, options.seed]).toEqual([2, 3, 1]);

      // Its temperature and seed are saved too, unless others are given.
      const loaded = await run(folder, 'Two?\n', '--load', place);
      expect([loaded.code, lines(loaded.stdout)]).toEqual([0, [second]]);
      expect(loaded.stderr).toContain(`continuing ${place} after 2 messages\n`);
      const greedy = await run(folder, 'Two?\n', '--load', place, '--temperature', '0');
      expect(lines(greedy.stdout)).not.toEqual([second]);
      const inside = await run(folder, `Nine?\n/load ${place}\nTwo?\n/reset\nOne?\n`, ...args);
      expect(lines(inside.stdout).slice(1)).toEqual([second, lines(whole.stdout)[0]]);
      expect(inside.stderr).toContain('all messages are forgotten\n');
    }));

  test('nothing is read after /exit', () =>
    withTinyCheckpoint({}, async (folder) => {
      const { code, stdout } = await run(folder, '/exit\nOne?\n');
      expect([code, stdout]).toEqual([0, '']);
    }));

  test.each([
    ['/frob', 2, 'gqa: expected one of the commands of /help, got /frob\n'],
    ['/save', 2, 'gqa: expected a folder, as in /save talk\n'],
    ['/load /nowhere', 1, 'gqa: /nowhere/chat.json: expected a saved chat, got no such file\n'],
  ])('%s ends with one line', (line, want, message) =>
    withTinyCheckpoint({}, async (folder) => {
      const { code, stdout, stderr } = await run(folder, `${line}\nOne?\n`);
      expect([code, stdout]).toEqual([want, '']);
      expect(stderr.endsWith(`\n${message}`)).toBe(true);
    }),
  );

  test('a full cache: a note, then one line with the numbers', () =>
    withTinyCheckpoint({}, async (folder) => {
      const { code, stdout, stderr } = await run(folder, 'One?\nTwo?\n', '--context', '20');
      expect(code).toBe(1);
      expect(lines(stdout).length).toBe(1);
      expect(stderr).toContain(
        '(the cache is full: 20 tokens; --context makes it larger, /reset empties it)\n',
      );
      expect(stderr).toMatch(/gqa: chat.send: expected messages of at most 20 tokens, got \d+ in 3 messages/);
    }));

  test('a checkpoint without a chat template, and --system with --load', () =>
    withTinyCheckpoint({ template: false }, async (folder) => {
      const { code, stderr } = await run(folder, 'One?\n');
      expect([code, stderr]).toEqual([
        1,
        `gqa: ${folder}: expected a chat template, got a checkpoint without one; npx gqa generate continues a text\n`,
      ]);
      const both = await run(folder, '', '--load', 'x', '--system', 'y');
      expect([both.code, both.stderr]).toEqual([
        2,
        'gqa: --system cannot be given with --load, whose messages have their own\n',
      ]);
    }));
});

describe.skipIf(noTerminal !== undefined).each([60, 120])('in a terminal of %i columns', (columns) => {
  /** Types each key when the screen shows its text, in this order. */
  const typed = (folder: string, steps: readonly (readonly [RegExp, string])[], ...args: string[]) => {
    let step = 0;
    let from = 0;
    return runInTerminal(['chat', folder, ...reference, ...args], columns, (shown) => {
      const text = shown.slice(from).replace(ESCAPES, '');
      if (step === steps.length || !steps[step][0].test(text)) return undefined;
      from = shown.length;
      return steps[step++][1];
    });
  };
  const PROMPT = /> $/;

  test('Ctrl-C stops an answer, clears a line, and at the second time ends the chat; lines have a history', () =>
    withTinyCheckpoint({ context: 100_000 }, async (folder) => {
      const { code, lines: screen } = await typed(
        folder,
        [
          [PROMPT, 'Talk.\r'],
          // Amid an answer that would go on for minutes.
          [/[^\n█░]{30}/, '\x03'],
          [PROMPT, '/stats\r'],
          [PROMPT, 'half a li'],
          [/half a li$/, '\x03'],
          // The line before, from the history.
          [/> ?/, '\x1b[A\x1b[A'],
          [/Talk\.$/, '\x15'],
          [/> ?/, '\x03'],
          [/ends the chat[\s\S]*> /, '\x03'],
        ],
        '--context',
        '100000',
      );
      expect(code).toBe(0);
      const text = screen.join('\n');
      expect(text).toContain('(stopped)');
      expect(text.replace(/\n/g, ' ')).toMatch(/last turn: \d+ new tokens read/);
      expect(screen.some((line) => /[█░]/.test(line))).toBe(false);
      expect(text.replace(/\n/g, ' ')).toContain('Ctrl-C again, or Ctrl-D, ends the chat');
    }));

  test('Ctrl-D ends it; an error does not', () =>
    withTinyCheckpoint({}, async (folder) => {
      const { code, lines: screen } = await typed(
        folder,
        [
          [PROMPT, '/frob\r'],
          [PROMPT, 'One?\r'],
          [PROMPT, '\x04'],
        ],
        '--max-tokens',
        '8',
      );
      expect(code).toBe(0);
      const at = screen.indexOf('gqa: expected one of the commands of /help, got /frob');
      expect(at).toBeGreaterThan(0);
      expect(screen.slice(at + 1)).toEqual([
        '> One?',
        expect.stringMatching(/^.{8}$/),
        '(reached --max-tokens)',
        '> ',
      ]);
    }));
});
