/** `--backend`, `--threads` and `--json`, for all commands that run a model. */
import type { Command } from 'commander';
import { type BackendName, setBackend, setThreads } from '../backend/index.ts';
import * as parse from './options.ts';

export interface BackendFlags {
  readonly backend?: BackendName;
  readonly threads?: number;
  readonly json?: true;
}

const BACKENDS: readonly BackendName[] = ['native', 'wasm', 'reference'];

/** @param json what `--json` does */
export function addBackendOptions(command: Command, json = 'print one JSON object'): Command {
  return command
    .addOption(parse.oneOf('--backend <name>', 'compute backend (default: native if built)', BACKENDS))
    .option('--threads <n>', 'threads of the kernels (default: one per processor)', parse.threadCount)
    .option('--json', json);
}

/** Makes the chosen backend the current one. */
export async function useBackend({ backend, threads }: BackendFlags): Promise<void> {
  if (backend !== undefined) await setBackend(backend);
  if (threads !== undefined) await setThreads(threads);
}
