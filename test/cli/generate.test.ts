/**
 * `gqa generate` on a tiny checkpoint with the reference backend, and on a real model where its file is
 * present.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadModel, type SamplingOptions } from '../../src/models/index.ts';
import { collect, Golden } from '../models/golden.ts';
import { modelFile, noModel } from '../text/fixtures.ts';
import { type CliRun, runCli } from './run-cli.ts';
import { tinyTokens, withTinyCheckpoint } from './tiny-checkpoint.ts';

interface GenerateJson {
  readonly text: string;
  readonly tokens: readonly number[];
  readonly finishReason: string;
  readonly seed: number;
  readonly prefill: { readonly tokens: number; readonly tokensPerSecond: number };
  readonly decode: { readonly tokens: number };
  readonly kvCache: { readonly dtype: string; readonly maxLength: number; readonly bytes: number };
}

const reference = ['--backend', 'reference'];
const tiny = (folder: string, ...args: string[]): Promise<CliRun> =>
  runCli(['generate', folder, ...reference, ...args]);
const json = (run: CliRun): GenerateJson => JSON.parse(run.stdout) as GenerateJson;

describe('gqa generate on a tiny checkpoint', () => {
  test('the tokens of transformers, as text and as JSON', () =>
    withTinyCheckpoint({}, async (folder) => {
      const golden = await Golden.open('tiny-llama/gqa-tied');
      const want = [...golden.ids('greedy/tokens')];
      const prompt = [...golden.ids('greedy/prompt')].map((id) => tinyTokens[id]).join('');
      const args = ['--prompt', prompt, '--max-tokens', String(want.length)];
      const result = json(await tiny(folder, ...args, '--json'));
      expect(result.tokens).toEqual(want);
      expect(result).toMatchObject({
        finishReason: 'length',
        prefill: { tokens: 7 },
        decode: { tokens: want.length },
        // 3 layers, K and V of 2 heads of 8 values in 4 bytes.
        kvCache: {
          dtype: 'f32',
          maxLength: 7 + want.length,
          bytes: (7 + want.length) * 384,
          bytesPerToken: 384,
        },
      });
      const text = want.map((id) => (id < 3 ? '' : tinyTokens[id])).join('');
      expect(result.text).toBe(text);

      const { code, stdout, stderr } = await tiny(folder, ...args);
      expect(code).toBe(0);
      expect(stdout).toBe(`${text}\n`);
      const [loading, prefill, decode, cache] = stderr.split('\n');
      expect(loading).toMatch(/^loaded .* on reference/);
      expect(prefill).toMatch(/^prefill +7 tokens, [\d.]+ tokens\/s$/);
      expect(decode).toMatch(/^decode +24 tokens, [\d.]+ tokens\/s \(reached --max-tokens\)$/);
      expect(cache).toBe('KV cache 11,904 bytes (11.6 KiB), f32: 31 tokens of 384 bytes');
    }));

  test('what changes nothing is said', () =>
    withTinyCheckpoint({}, async (folder) => {
      const run = await tiny(folder, '--prompt', 'ab', '--max-tokens', '1', '--top-k', '5');
      expect(run.code).toBe(0);
      expect(run.stderr).toContain('--top-k changes nothing at --temperature 0');
    }));

  test('a flag for each option of sampling', () =>
    withTinyCheckpoint({ ends: true }, async (folder) => {
      const flags = {
        '--temperature': '1.5',
        '--top-k': '40',
        '--top-p': '0.97',
        '--min-p': '0.02',
        '--typical-p': '0.9',
        '--repetition-penalty': '1.4',
        '--presence-penalty': '0.6',
        '--frequency-penalty': '-1.2',
        '--no-repeat-ngram-size': '2',
        '--logit-bias': '2=3,8=-inf,9=2.5',
        '--min-new-tokens': '30',
      };
      const options: SamplingOptions = {
        temperature: 1.5,
        topK: 40,
        topP: 0.97,
        minP: 0.02,
        typicalP: 0.9,
        repetitionPenalty: 1.4,
        presencePenalty: 0.6,
        frequencyPenalty: -1.2,
        noRepeatNgramSize: 2,
        logitBias: { 2: 3, 8: -Infinity, 9: 2.5 },
        minNewTokens: 30,
      };
      const args = ['--prompt', 'abcab', '--max-tokens', '40', '--seed', '3', '--json'];
      const run = json(await tiny(folder, ...args, ...Object.entries(flags).flat()));
      const model = await loadModel(folder, { backend: 'reference' });
      const prompt = [...(model.tokenizer?.encode('abcab') ?? [])];
      const tokens = (left: SamplingOptions) =>
        collect(model, prompt, { ...left, maxNewTokens: 40, seed: 3 });
      expect(run.tokens).toEqual(await tokens(options));
      // Without any one of them the tokens are others, so that each flag counts.
      for (const name of Object.keys(options).slice(1)) {
        expect(await tokens({ ...options, [name]: undefined }), name).not.toEqual(run.tokens);
      }
      model.dispose();
      const outside = await tiny(folder, ...args, '--logit-bias', '97=1');
      expect(outside.code).toBe(2);
      expect(outside.stderr).toContain('expected token ids below 97 in --logit-bias, got 97');
    }));

  test('--kv-dtype, --context and a full context', () =>
    withTinyCheckpoint({ context: 20 }, async (folder) => {
      const f16 = json(await tiny(folder, '--prompt', 'abcdefgh', '--kv-dtype', 'f16', '--json'));
      expect(f16.kvCache).toMatchObject({ dtype: 'f16', maxLength: 20, bytes: 20 * 192 });
      expect(f16).toMatchObject({ finishReason: 'context', decode: { tokens: 13 } });
      const small = json(await tiny(folder, '--prompt', 'abcdefgh', '--context', '10', '--json'));
      expect(small).toMatchObject({
        finishReason: 'context',
        decode: { tokens: 3 },
        kvCache: { maxLength: 10 },
      });
      expect(small.tokens).toEqual(
        json(await tiny(folder, '--prompt', 'abcdefgh', '--json')).tokens.slice(0, 3),
      );

      const long = await tiny(folder, '--prompt', 'abcdefgh'.repeat(3));
      expect(long).toMatchObject({ code: 1, stdout: '' });
      expect(long.stderr).toContain(
        "gqa: expected a prompt within the model's context of 20 tokens, got 24\n",
      );
      const over = await tiny(folder, '--prompt', 'a', '--context', '21');
      expect(over.stderr).toContain("gqa: expected --context of at most 20, the model's context, got 21\n");
      expect(over.code).toBe(1);
    }));

  test('sampling repeats with its seed', () =>
    withTinyCheckpoint({}, async (folder) => {
      const args = ['--prompt', 'hello', '--max-tokens', '12', '--temperature', '1.5', '--top-k', '40'];
      const sample = async (...more: string[]) => json(await tiny(folder, ...args, ...more, '--json'));
      const first = await sample('--top-p', '0.99', '--min-p', '0');
      expect(await sample('--top-p', '0.99', '--min-p', '0', '--seed', String(first.seed))).toMatchObject({
        tokens: first.tokens,
      });
      expect((await sample('--seed', '1')).tokens).not.toEqual((await sample('--seed', '2')).tokens);
    }));

  test('the prompt from stdin, without its line end; --chat and --system', () =>
    withTinyCheckpoint({}, async (folder) => {
      const args = ['generate', folder, ...reference, '--max-tokens', '3', '--json'];
      const direct = json(await runCli([...args, '--prompt', 'two lines']));
      const piped = json(await runCli([...args, '--prompt', '-'], { stdin: 'two lines\n' }));
      expect(piped).toMatchObject({ tokens: direct.tokens, prefill: { tokens: 9 } });
      const chat = json(await runCli([...args, '--prompt', 'hi', '--chat', '--system', 'be brief']));
      expect(chat.prefill.tokens).toBe('system: be brief user: hi '.length);
    }));

  test('earlier turns, tools and variables of the template', () =>
    withTinyCheckpoint({}, async (folder) => {
      const template =
        "{% for m in messages %}{{ m.role[0] }}{{ m.content }};{% endfor %}{{ tools|length if tools else '' }}{{ k }}{{ s }}";
      writeFileSync(join(folder, 'chat_template.jinja'), template);
      mkdirSync(join(folder, 'additional_chat_templates'));
      writeFileSync(join(folder, 'additional_chat_templates', 'tool_use.jinja'), `tools:${template}`);
      const turns = join(folder, 'turns.json');
      writeFileSync(
        turns,
        JSON.stringify([
          { role: 'user', content: 'a' },
          { role: 'assistant', content: 'b' },
        ]),
      );
      const tools = join(folder, 'tools.json');
      writeFileSync(tools, JSON.stringify([{ name: 'f' }]));
      const args = ['--chat', '--max-tokens', '1', '--json'];
      const tokens = async (...more: string[]) => json(await tiny(folder, ...args, ...more)).prefill.tokens;
      expect(await tokens('--messages', turns, '--prompt', 'c')).toBe('ua;ab;uc;'.length);
      expect(await tokens('--messages', turns, '--system', 'x')).toBe('sx;ua;ab;'.length);
      const variables = ['--template-var', 'k=1.0', '--template-var', 's=no json'];
      expect(await tokens('--prompt', 'c', ...variables)).toBe('uc;1.0no json'.length);
      expect(await tokens('--prompt', 'c', '--tools', tools)).toBe('tools:uc;1'.length);

      const refused = async (...more: string[]) => {
        const { code, stderr } = await tiny(folder, ...more);
        return [code, stderr.split('\n')[0]];
      };
      expect(await refused('--prompt', 'x', '--tools', tools)).toEqual([2, 'gqa: --tools needs --chat']);
      expect(await refused('--messages', turns)).toEqual([2, 'gqa: --messages needs --chat']);
      expect(await refused('--chat', '--prompt', 'x', '--messages', join(folder, 'config.json'))).toEqual([
        1,
        expect.stringContaining('config.json: expected a JSON list of messages, each an object'),
      ]);
      expect((await refused('--chat', '--prompt', 'x', '--template-var', 'k'))[1]).toContain(
        'Expected name=value.',
      );
    }));

  test('a prompt that is no UTF-8 is refused', () =>
    withTinyCheckpoint({}, async (folder) => {
      const stdin = new Uint8Array([0x63, 0x61, 0x66, 0xe9]);
      const { code, stderr } = await runCli(['generate', folder, '--prompt', '-'], { stdin });
      expect([code, stderr]).toEqual([1, 'gqa: stdin: expected UTF-8 text\n']);
    }));

  test('--stop ends before its text; --max-tokens 0 only reads the prompt', () =>
    withTinyCheckpoint({}, async (folder) => {
      const { text } = json(await tiny(folder, '--prompt', 'hello', '--max-tokens', '12', '--json'));
      const stop = text.slice(5, 7);
      const stopped = json(
        await tiny(folder, '--prompt', 'hello', '--stop', 'never', '--stop', stop, '--json'),
      );
      expect(stopped.text).toBe(text.slice(0, text.indexOf(stop)));
      expect(stopped.finishReason).toBe('stop');
      const none = await tiny(folder, '--prompt', 'hello', '--max-tokens', '0', '--json');
      expect(json(none)).toMatchObject({ tokens: [], text: '', finishReason: 'length' });
      expect(none.code).toBe(0);
    }));

  test('what the checkpoint lacks is named', async () => {
    await withTinyCheckpoint({ template: false }, async (folder) => {
      const { code, stderr } = await tiny(folder, '--prompt', 'x', '--chat');
      expect(stderr).toContain(
        `gqa: ${folder}: expected a chat template for --chat, got a checkpoint without one\n`,
      );
      expect(code).toBe(1);
    });
    await withTinyCheckpoint({ tokenizer: false }, async (folder) => {
      const { code, stdout, stderr } = await tiny(folder, '--prompt', 'x');
      expect(stderr).toContain(`gqa: ${folder}: expected a checkpoint with a tokenizer, got one without\n`);
      expect(stdout).toBe('');
      expect(code).toBe(1);
    });
  });

  test('Ctrl-C ends the text and its summary follows; a second one ends everything', () =>
    withTinyCheckpoint({ context: 200_000 }, async (folder) => {
      const args = [
        'generate',
        folder,
        ...reference,
        '--prompt',
        'a',
        '--max-tokens',
        '100000',
        '--context',
        '100001',
      ];
      let sent = 0;
      const once = await runCli(args, { onOutput: (child) => sent++ === 0 && child.kill('SIGINT') });
      expect(once.code).toBe(130);
      expect(once.stderr).toMatch(/decode +[\d,]+ tokens.* \(interrupted\)\nKV cache .*\n$/);

      // The second one comes before the first one has had its turn, or behind it.
      sent = 0;
      const twice = await runCli(args, {
        onOutput: (child) => {
          if (sent++ > 0) return;
          child.kill('SIGINT');
          child.kill('SIGINT');
        },
      });
      expect(twice.code).toBe(130);
    }));
});

describe('gqa generate on SmolLM2', () => {
  test('answers as transformers does', async (context) => {
    if (noModel !== undefined) return context.skip(noModel);
    const golden = JSON.parse(
      readFileSync(new URL('../golden/smollm2/golden.json', import.meta.url), 'utf8'),
    ) as { greedy: { chat: { answer: string } } };
    const args = ['generate', modelFile, '--chat', '--prompt', 'Name three oceans.', '--max-tokens', '24'];
    const { code, stdout, stderr } = await runCli(args);
    expect(code).toBe(0);
    expect(stdout.length).toBeGreaterThan(40);
    expect(golden.greedy.chat.answer.startsWith(stdout.trimEnd())).toBe(true);
    expect(stderr).toMatch(/prefill +34 tokens/);
    expect(stderr).toContain('58 tokens of 46,080 bytes');
  });
});
