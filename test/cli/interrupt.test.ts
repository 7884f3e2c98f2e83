/** Ctrl-C: its effect on each command, and the state of the terminal afterwards. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { handleInterrupts, untilInterrupt } from '../../src/cli/interrupt.ts';
import { SMOLLM2 } from '../models/golden.ts';
import { cliFile } from './run-cli.ts';
import { noTerminal, runInTerminal } from './terminal.ts';

describe('the handler', () => {
  afterEach(() => {
    vi.restoreAllMocks();
    process.removeAllListeners('SIGINT');
  });
  const exits = () => vi.spyOn(process, 'exit').mockImplementation((() => {}) as never);
  const press = () => process.emit('SIGINT');

  test('ends the process where no work stops by itself', () => {
    const exit = exits();
    handleInterrupts();
    press();
    expect(exit).toHaveBeenCalledExactlyOnceWith(130);
  });

  test('stops the work at the first press, which may come as two signals; a later press ends the process', async () => {
    const exit = exits();
    const now = vi.spyOn(performance, 'now').mockReturnValue(1000);
    handleInterrupts();
    const result = await untilInterrupt(async (signal) => {
      press();
      press();
      expect([signal.aborted, exit.mock.calls.length]).toEqual([true, 0]);
      now.mockReturnValue(1600);
      press();
      expect(exit).toHaveBeenCalledExactlyOnceWith(130);
      return 'stopped';
    });
    expect(result).toBe('stopped');
    now.mockReturnValue(2000);
    press();
    expect(exit).toHaveBeenCalledTimes(2);
  });

  test('other signals count while the work runs, and only then', async () => {
    const before = process.listenerCount('SIGTERM');
    await untilInterrupt(async (signal) => {
      process.emit('SIGTERM');
      expect(signal.aborted).toBe(true);
    }, 'SIGTERM');
    expect(process.listenerCount('SIGTERM')).toBe(before);
  });
});

describe.skipIf(noTerminal !== undefined).each([60, 120])('in a terminal of %i columns', (columns) => {
  /** Presses Ctrl-C when the bar is in the state. */
  async function interrupted(
    args: readonly string[],
    state: RegExp,
  ): Promise<{ code: number | null; text: string }> {
    let pressed = false;
    const { code, lines } = await runInTerminal(args, columns, (shown) => {
      if (pressed || !state.test(shown)) return undefined;
      pressed = true;
      return '\u0003';
    });
    expect(pressed).toBe(true);
    return { code, text: lines.join('\n') };
  }

  test('eval ends amid its work, without its bar', async () => {
    const args = ['eval', 'demo/model', '--data', 'demo/moby-dick.txt'];
    expect(await interrupted(args, /█/)).toEqual({ code: 130, text: '' });
  });

  test('convert --calibrate ends without its bar, and makes no checkpoint', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'gqa-'));
    const out = join(folder, 'out');
    const args = ['convert', 'demo/model', out, '--kv-heads', '1', '--calibrate', 'demo/moby-dick.txt'];
    expect(await interrupted(args, /[█░]/)).toEqual({ code: 130, text: '' });
    expect(readdirSync(folder)).toEqual([]);
    rmSync(folder, { recursive: true });
  });

  test('convert --distill keeps its trained layers, and --resume continues it', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'gqa-'));
    const [out, text] = [join(folder, 'out'), join(folder, 'text.txt')];
    writeFileSync(text, readFileSync('demo/moby-dick.txt', 'utf8').slice(0, 6000));
    const rest = ['--kv-heads', '1', '--calibrate', text, '--distill', '--steps', '20', '--final-steps', '1'];
    const args = ['convert', 'demo/model', out, ...rest];
    const stopped = await interrupted(args, /training layer 3 of 4/);
    const message = `stopped; trained layers are in ${out}.distill (2): --resume continues`;
    expect(stopped.code).toBe(130);
    expect(words(stopped.text)).toEqual(words(message));
    const resumed = await runInTerminal([...args, '--resume'], columns, (shown) => {
      expect(shown).not.toContain('training layer 2');
      return undefined;
    });
    expect([resumed.code, readdirSync(folder)]).toEqual([0, ['out', 'text.txt']]);
    rmSync(folder, { recursive: true });
  }, 120_000);
});

/** Without the line breaks of a narrow terminal, which also fall inside a long path. */
function words(text: string): string {
  return text.replaceAll(/\s/g, '');
}

test.skipIf(SMOLLM2 === undefined).each([
  ['convert', '--kv-heads', '1'],
  ['quantize', '--type', 'q4_k'],
])('%s stops amid its file and leaves nothing', async (command, ...flags) => {
  const folder = mkdtempSync(join(tmpdir(), 'gqa-'));
  const args = [command, SMOLLM2 ?? '', join(folder, 'out.gguf'), ...flags];
  const child = spawn(process.execPath, [cliFile, ...args], { stdio: 'ignore' });
  const closed = new Promise((resolve) => child.on('close', resolve));
  await vi.waitUntil(() => readdirSync(folder).length > 0, { timeout: 30_000, interval: 5 });
  child.kill('SIGINT');
  expect([await closed, readdirSync(folder)]).toEqual([130, []]);
  rmSync(folder, { recursive: true });
});
