/**
 * `gqa convert`: writes a checkpoint with another number of key/value heads and, given a text, measures the
 * drift: errors per layer, perplexity before and after, and a page with both.
 */
import { Command, Option } from 'commander';
import { FORMATS, formatNamed } from '../checkpoint/formats.ts';
import { openCheckpoint } from '../checkpoint/open-checkpoint.ts';
import { driftPage } from '../convert/drift-page.ts';
import {
  type ConvertMethod,
  type ConvertResult,
  convertCheckpoint,
  type DriftReport,
  measureDrift,
} from '../convert/index.ts';
import type { StorageType } from '../format/storage-type.ts';
import { UsageError } from './errors.ts';
import * as parse from './options.ts';
import { exactSize, writeJson, writeNote, writeResult } from './output.ts';
import { checkPagePlace, writePage } from './pages/file.ts';
import { startProgress } from './progress.ts';
import { readTrainingText } from './read-text.ts';
import { facts, table } from './table.ts';

interface ConvertFlags {
  readonly kvHeads: number;
  readonly method?: ConvertMethod;
  readonly seed: number;
  readonly dtype?: StorageType;
  readonly format?: 'safetensors' | 'gguf';
  readonly calibrate?: string;
  readonly report?: string;
  readonly force?: true;
  readonly json?: true;
}

const example = `
Examples:
  npx gqa convert models/llama-2-7b models/llama-2-7b-gqa8 --kv-heads 8
  npx gqa convert model.gguf mqa.gguf --kv-heads 1 --calibrate text.txt --report drift.html
  npx gqa convert models/tiny-llama model.gguf --kv-heads 4 --dtype q8_0

Drift is measured on the text given to --calibrate. With --method similar, the first half of the text groups and aligns the heads, and drift is measured on the second half.`;

export function convertCommand(): Command {
  return new Command('convert')
    .description('write a checkpoint with fewer (or more) key/value heads, and measure the drift')
    .argument('<in>', 'a Hugging Face directory with safetensors, or a .gguf file', parse.path)
    .argument('<out>', 'the directory to make, or a .gguf file', parse.path)
    .requiredOption(
      '--kv-heads <K>',
      "new number of key/value heads: a divisor of the checkpoint's K, or a multiple that divides N",
      parse.positiveInteger,
    )
    .addOption(
      new Option(
        '--method <name>',
        'how to merge heads (default: similar with --calibrate, else mean)',
      ).choices(['mean', 'first', 'random', 'similar']),
    )
    .option('--seed <n>', 'seed of --method random', parse.wholeNumber, 0)
    .addOption(
      new Option('--dtype <dtype>', 'type of the weights (default: as stored)').choices([
        'f32',
        'f16',
        'bf16',
        'q8_0',
      ]),
    )
    .addOption(
      new Option('--format <name>', 'output format (default: by the name of <out>)').choices([
        'safetensors',
        'gguf',
      ]),
    )
    .option('--calibrate <text>', 'measure drift on a text file, a folder of them, or moby-dick', parse.path)
    .option('--report <file.html>', 'also write a page with the drift (with --calibrate)', parse.path)
    .option('--force', 'replace an existing checkpoint')
    .option('--json', 'print one JSON object')
    .addHelpText('after', example)
    .action(run);
}

async function run(from: string, to: string, flags: ConvertFlags): Promise<void> {
  const { kvHeads, seed, dtype, force, report } = flags;
  const method = flags.method ?? (flags.calibrate === undefined ? 'mean' : 'similar');
  checkFlags(to, flags);
  const text = flags.calibrate === undefined ? undefined : await readTrainingText(flags.calibrate);
  const half = text?.lastIndexOf('\n', text.length / 2) ?? 0;
  const split = half > 0 ? half : Math.floor((text?.length ?? 0) / 2);
  const isFitted = method === 'similar' && text !== undefined;
  if (text !== undefined) await checkMeasurable(from, isFitted ? text.slice(split) : text, flags);
  const progress = startProgress('converting', `converting ${from} to K=${kvHeads} by ${method}`);
  let result: ConvertResult;
  try {
    result = await convertCheckpoint({
      ...{ from, to, numKeyValueHeads: kvHeads, method, seed, dtype, force },
      calibration: isFitted ? text.slice(0, split) : undefined,
      onProgress: progress.update,
    });
  } finally {
    progress.stop();
  }
  const drift =
    text === undefined ? undefined : await measure(from, to, result, isFitted ? text.slice(split) : text);
  if (flags.json) {
    const { layers: _, ...rest } = result;
    writeJson({ from, to, ...rest, drift });
  } else {
    writeResult(describe(to, result));
    if (drift) writeResult(`\n${driftText(drift)}`);
  }
  warnOfCost(result, drift);
  if (report !== undefined && drift) {
    await writePage(report, driftPage(`${from} to ${to}`, drift));
  }
}

/**
 * Warns that fewer heads cost quality until the model is uptrained: how much, or that it was not measured.
 */
function warnOfCost({ numKeyValueHeads: K }: ConvertResult, drift: DriftReport | undefined): void {
  if (K.after >= K.before) return;
  if (drift === undefined) {
    writeNote(
      'gqa: warning: quality was not measured, and most models need gqa uptrain after this conversion to write sensible text; --calibrate <text> measures it, and merges heads by --method similar, which loses less',
    );
    return;
  }
  const { before, after } = drift;
  const times = after.perplexity / before.perplexity;
  if (times < 1.5) return;
  writeNote(
    `gqa: warning: perplexity ${before.perplexity.toFixed(2)} became ${after.perplexity.toFixed(2)}, ${times.toFixed(1)} times as much; gqa uptrain recovers most of it`,
  );
}

function checkFlags(to: string, { format, report, calibrate }: ConvertFlags): void {
  if (format !== undefined && format !== formatNamed(to).kind) {
    const ending = FORMATS.find(({ kind }) => kind === format)?.ending;
    const expected = ending === undefined ? 'a directory as <out>' : `an <out> that ends in ${ending}`;
    throw new UsageError(`expected ${expected} for --format ${format}, got ${to}`);
  }
  if (report !== undefined && calibrate === undefined) {
    throw new UsageError('expected --calibrate with --report: drift is measured on a text');
  }
}

/**
 * Reports what would prevent the drift measurement or its page before the conversion, which can take long.
 */
async function checkMeasurable(
  from: string,
  text: string,
  { calibrate, report }: ConvertFlags,
): Promise<void> {
  if (report !== undefined) await checkPagePlace(report);
  await using checkpoint = await openCheckpoint(from);
  const makeTokenizer = await checkpoint.format.tokenizer(checkpoint);
  if (!makeTokenizer)
    throw new Error(`${from}: expected a checkpoint with a tokenizer for --calibrate, got one without`);
  // The beginning is enough to find two tokens; encoding a whole book takes a while.
  const { length } = makeTokenizer().encode(text.slice(0, 1000), { addSpecialTokens: false });
  if (length < 2)
    throw new Error(`${calibrate}: expected a text of at least 2 tokens to measure on, got ${length}`);
}

async function measure(from: string, to: string, result: ConvertResult, text: string): Promise<DriftReport> {
  const progress = startProgress('measuring', 'measuring the drift');
  try {
    return await measureDrift({ from, to, result, text, onProgress: progress.update });
  } finally {
    progress.stop();
  }
}

function describe(
  to: string,
  { format, method, numHeads, numKeyValueHeads: K, bytes, files }: ConvertResult,
): string {
  const rows: [string, string, string][] = [
    [
      'wrote',
      to,
      `${format}, ${exactSize(bytes)}, ${files.length === 1 ? '1 file' : `${files.length} files`}`,
    ],
    [
      'heads',
      `N=${numHeads}, K=${K.before} to ${K.after}`,
      K.after < K.before ? method : 'repeated, the same model',
    ],
    ['KV cache', cacheText(K.before, K.after), ''],
  ];
  return facts(rows);
}

function cacheText(before: number, after: number): string {
  if (before === after) return 'as it was';
  return after < before
    ? `1/${Number((before / after).toFixed(2))} of what it was`
    : `${Number((after / before).toFixed(2))} times what it was`;
}

function driftText({ before, after, kl, topOneAgreement, predicted, layers }: DriftReport): string {
  const sums = [
    ['perplexity', before.perplexity.toFixed(3), after.perplexity.toFixed(3)],
    ['loss (nats)', before.loss.toFixed(4), after.loss.toFixed(4)],
    ['KL (nats)', '', kl.toFixed(4)],
    ['same top-1', '', `${(100 * topOneAgreement).toFixed(1)} %`],
    ['predicted', `${predicted}`, ''],
  ];
  const layerHead = ['layer', 'K error', 'V error', 'output error', 'groups'];
  const rows = layers.map(({ key, value, attentionOutput, groups }, i) => [
    `${i}`,
    ...[key, value, attentionOutput].map((error) => error.toFixed(4)),
    groups.map((group) => group.join('+')).join(' '),
  ]);
  return `${table(['', 'before', 'after'], sums, [1, 2])}\n\n${table(layerHead, rows, [0, 1, 2, 3])}`;
}
