/** `--backend`, `--threads`, `--matmul-precision` and `--json`, for all commands that run a model. */
import type { Command } from 'commander';
import { MATMUL_PRECISIONS, type MatmulPrecision } from '../backend/calls/call.ts';
import { type BackendName, setBackend, setThreads } from '../backend/index.ts';
import { setMatmulPrecision } from '../ops/matmul-precision.ts';
import * as parse from './options.ts';

export interface BackendFlags {
  readonly backend?: BackendName;
  readonly threads?: number;
  readonly matmulPrecision?: MatmulPrecision;
  readonly json?: true;
}

const BACKENDS: readonly BackendName[] = ['native', 'wasm', 'reference'];

/** @param json what `--json` does */
export function addBackendOptions(command: Command, json = 'print one JSON object'): Command {
  return command
    .addOption(parse.oneOf('--backend <name>', 'compute backend (default: native if built)', BACKENDS))
    .option('--threads <n>', 'threads of the kernels (default: one per processor)', parse.threadCount)
    .addOption(
      parse.oneOf(
        '--matmul-precision <name>',
        'how exactly to multiply: bfloat16 and int8 are faster where the processor has units for them (default: highest)',
        MATMUL_PRECISIONS,
      ),
    )
    .option('--json', json);
}

/** Makes the chosen backend the current one. */
export async function useBackend({ backend, threads, matmulPrecision }: BackendFlags): Promise<void> {
  if (backend !== undefined) await setBackend(backend);
  if (threads !== undefined) await setThreads(threads);
  if (matmulPrecision !== undefined) setMatmulPrecision(matmulPrecision);
}
