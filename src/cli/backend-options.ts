/** `--backend`, `--threads` and `--json`, for all commands that run a model. */
import { type Command, Option } from 'commander';
import { type BackendName, setBackend, setThreads } from '../backend/index.ts';
import * as parse from './options.ts';

export interface BackendFlags {
  readonly backend?: BackendName;
  readonly threads?: number;
  readonly json?: true;
}

/** @param json what `--json` does */
export function addBackendOptions(command: Command, json = 'print one JSON object'): Command {
  return command
    .addOption(
      new Option('--backend <name>', 'backend (default: native if it was built)').choices([
        'native',
        'wasm',
        'reference',
      ]),
    )
    .option('--threads <n>', 'threads of the native backend (default: one per processor)', parse.threadCount)
    .option('--json', json);
}

/** Makes the chosen backend the current one. */
export async function useBackend({ backend, threads }: BackendFlags): Promise<void> {
  if (backend !== undefined) await setBackend(backend);
  if (threads !== undefined) setThreads(threads);
}
