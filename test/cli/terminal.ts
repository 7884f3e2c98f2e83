/**
 * The command line in a terminal: `script` makes a pseudo-terminal, and xterm's emulator gives the visible
 * text.
 */
import { spawn, spawnSync } from 'node:child_process';
import terminal from '@xterm/headless';
import { backends } from '../ops/backends.ts';
import { cliFile } from './run-cli.ts';

/** Why tests through a terminal cannot run here; undefined where they can. */
export const noTerminal: string | undefined =
  spawnSync('script', ['--version']).stdout?.includes('util-linux') === true
    ? undefined
    : 'no script of util-linux, which makes a pseudo-terminal';
if (noTerminal) console.warn(`skipping what a terminal shows: ${noTerminal}`);

export interface TerminalRun {
  readonly code: number | null;
  /** Every line that was shown, those scrolled away too, without spaces at its end. */
  readonly lines: readonly string[];
}

/** @param onLine called with each state of the last lines; what it returns is typed */
export async function runInTerminal(
  args: readonly string[],
  columns: number,
  onScreen?: (text: string) => string | undefined,
): Promise<TerminalRun> {
  const quoted = [process.execPath, cliFile, ...args].map((word) => `'${word.replaceAll("'", "'\\''")}'`);
  const command = `stty cols ${columns} rows 24; exec ${quoted.join(' ')}`;
  // Where there is no native build, one line says that WASM runs, unless it is asked for.
  const backend = backends.some(({ name }) => name === 'native') ? {} : { GQA_BACKEND: 'wasm' };
  const env = { ...process.env, ...backend, GQA_DEBUG: '', TERM: 'xterm-256color' };
  const child = spawn('script', ['--quiet', '--return', '--command', command, '/dev/null'], { env });
  const screen = new terminal.Terminal({
    cols: columns,
    rows: 24,
    scrollback: 10_000,
    allowProposedApi: true,
  });
  let shown = '';
  child.stdout.on('data', (bytes: Buffer) => {
    screen.write(bytes);
    shown += bytes.toString();
    const keys = onScreen?.(shown);
    if (keys !== undefined) child.stdin.write(keys);
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  await new Promise<void>((resolve) => screen.write('', resolve));
  const { active } = screen.buffer;
  const lines = Array.from(
    { length: active.length },
    (_, i) => active.getLine(i)?.translateToString(true) ?? '',
  );
  while (lines.at(-1) === '') lines.pop();
  return { code, lines };
}
