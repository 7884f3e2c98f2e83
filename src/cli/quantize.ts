/** `gqa quantize`: writes a checkpoint as a GGUF file in a block type, by llama.cpp's mixtures. */
import { statSync } from 'node:fs';
import { Command } from 'commander';
import { convertCheckpoint } from '../convert/index.ts';
import { MIXTURE_TYPES } from '../format/gguf-mixture.ts';
import type { StorageType } from '../format/storage-type.ts';
import { UsageError } from './errors.ts';
import { unlessInterrupted } from './interrupt.ts';
import { addCacheOption, type CacheFlag, CHECKPOINT_HELP } from './load-checkpoint.ts';
import * as parse from './options.ts';
import { exactSize, helpEnd, writeJson, writeResult } from './output.ts';
import { withProgress } from './progress.ts';
import { facts } from './table.ts';

interface QuantizeFlags extends CacheFlag {
  readonly type: StorageType;
  readonly force?: true;
  readonly json?: true;
}

const about = `
The types are llama.cpp's Q8_0, Q6_K, Q4_K_M and Q4_0: the output head, and in q4_k some values and down projections,
have more bits. llama.cpp opens the file. Quantising a quantised file adds to its errors.

Examples:
  npx gqa quantize models/SmolLM2-135M model.gguf --type q4_k
  npx gqa quantize model-f16.gguf model-q8.gguf --type q8_0`;

export function quantizeCommand(): Command {
  const command = new Command('quantize')
    .description('write a checkpoint as a quantised GGUF file')
    .argument('<in>', CHECKPOINT_HELP, parse.path)
    .argument('<out>', 'the .gguf file to make', parse.path)
    .addOption(
      parse.oneOf('--type <dtype>', 'block type of the weights', MIXTURE_TYPES).makeOptionMandatory(),
    );
  return addCacheOption(command)
    .option('--force', 'replace an existing file')
    .option('--json', 'print one JSON object')
    .addHelpText('after', helpEnd(about))
    .action(run);
}

async function run(from: string, to: string, { type, cache, force, json }: QuantizeFlags): Promise<void> {
  if (!/\.gguf$/i.test(to)) throw new UsageError(`expected an <out> that ends in .gguf, got ${to}`);
  const result = await unlessInterrupted((signal) =>
    withProgress('quantizing', `quantizing ${from} to ${type}`, (onProgress) =>
      convertCheckpoint({ from, to, dtype: type, cache, force, onProgress, signal }),
    ),
  );
  if (result === undefined) return;
  const { format, bytes } = result;
  const fileBytes = statSync(to).size;
  if (json) writeJson({ from, to, format, type, bytes, fileBytes });
  else {
    const rows: [string, string, string][] = [
      ['wrote', to, `${format}, ${exactSize(fileBytes)}`],
      ['weights', exactSize(bytes), `in ${type}`],
    ];
    writeResult(facts(rows));
  }
}
