/** Runs the built command line as a process with arguments; returns its output and exit code. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
export const cliFile: string = join(root, 'dist/cli/main.js');

/**
 * Where there is no native build, one line says that WASM runs; what commands print is the same with and
 * without it.
 */
const FALLBACK_NOTICE = /^gqa: using wasm .*\n/m;

export interface CliRun {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CliOptions {
  readonly stdin?: string | Uint8Array;
  readonly env?: Readonly<Record<string, string>>;
  /** Called with each piece of stdout, to send signals at the right time. */
  readonly onOutput?: (child: ChildProcess) => void;
}

/**
 * @throws Error when dist/ was built before a file of the command line was changed: it would test something
 *   else.
 */
function checkBuilt(): void {
  const sources = join(root, 'src/cli');
  const names = readdirSync(sources, { recursive: true, encoding: 'utf8' });
  const newest = Math.max(...names.map((name) => statSync(join(sources, name)).mtimeMs));
  const built = statSync(cliFile, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (built < newest) throw new Error('dist/cli is older than src/cli; run npm run build (npm test does)');
}

export async function runCli(args: readonly string[], options: CliOptions = {}): Promise<CliRun> {
  checkBuilt();
  const env = { ...process.env, GQA_DEBUG: '', NO_COLOR: '1', ...options.env };
  const child = spawn(process.execPath, [cliFile, ...args], { env });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (piece: string) => {
    stdout += piece;
    options.onOutput?.(child);
  });
  child.stderr.setEncoding('utf8').on('data', (piece: string) => {
    stderr += piece;
  });
  child.stdin.end(options.stdin ?? '');
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  return { code, stdout, stderr: stderr.replace(FALLBACK_NOTICE, '') };
}
