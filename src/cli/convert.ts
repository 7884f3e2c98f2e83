/**
 * `gqa convert`: writes a checkpoint with another number of key/value heads and, given a text, measures the
 * drift: errors per layer, perplexity before and after, and a page with both.
 */
import { Command } from 'commander';
import { FORMATS, formatNamed } from '../checkpoint/formats.ts';
import { openCheckpoint } from '../checkpoint/open-checkpoint.ts';
import { METHODS } from '../convert/convert-checkpoint.ts';
import { driftPage } from '../convert/drift-page.ts';
import {
  type ConvertMethod,
  type ConvertResult,
  convertCheckpoint,
  type DriftReport,
  measureDrift,
} from '../convert/index.ts';
import { trainedLayersFolder } from '../convert/trained-layers.ts';
import { outputPlace } from '../files/place.ts';
import type { StorageType } from '../format/storage-type.ts';
import { RunConflictError } from '../train/run-identity.ts';
import { chooseHeads } from './choose-heads.ts';
import { driftText } from './drift-text.ts';
import { UsageError } from './errors.ts';
import { heldOutTexts } from './held-out-texts.ts';
import { unlessInterrupted } from './interrupt.ts';
import { addCacheOption, type CacheFlag, CHECKPOINT_HELP } from './load-checkpoint.ts';
import * as parse from './options.ts';
import { exactSize, helpEnd, partOf, writeJson, writeNote, writeResult } from './output.ts';
import { checkPagePlace, writePage } from './pages/file.ts';
import { withProgress } from './progress.ts';
import { DATA_HELP, knownText, neededTokenizer, readTrainingTexts } from './read-text.ts';
import { facts } from './table.ts';

interface ConvertFlags extends CacheFlag {
  readonly numKeyValueHeads?: number;
  readonly target?: number;
  readonly keyValueBytes?: number;
  readonly method?: ConvertMethod;
  readonly seed: number;
  readonly dtype?: StorageType;
  readonly format?: string;
  readonly calibration?: string;
  readonly distill?: true;
  readonly steps?: number;
  readonly finalSteps?: number;
  readonly resume?: true;
  readonly drift?: true;
  readonly driftText?: readonly string[];
  readonly report?: string;
  readonly force?: true;
  readonly json?: true;
}

const HEADS_HELP = "new number of key/value heads: a divisor of the model's K, or a multiple that divides N";
const TARGET_HELP =
  'in place of --kv-heads: the fewest heads whose loss on --calibrate is at most so far above the original';
const BYTES_HELP =
  'in place of --kv-heads: the most heads whose KV cache takes at most this per token, as f16, such as 8KiB';
const METHOD_HELP = 'how to merge heads (default: similar with --calibrate, else mean)';
const DTYPES = [...new Set(FORMATS.flatMap(({ dtypes }) => dtypes))];
const KINDS = FORMATS.map(({ kind }) => kind);

const about = `
The drift is measured on the text given to --calibrate. With --method similar, the first half of each text is used
to group and align the heads, and the drift is measured on the second half. --drift measures more, on texts that
come with this package: loss and KL on each, how long both models write the same tokens, how much they repeat
themselves, and how many last words of sentences they find.

With --distill the first halves also train the converted layers, one after the other, to give the attention outputs
of the original ones; with --final-steps, then all of them together to predict what the original predicts. Give it
a folder with texts of the kinds that the model is used for. Each trained layer is kept in <out>.distill until
<out> is written: after Ctrl-C, the same command with --resume goes on behind the last of them. Final steps begin
again.

--target and --kv-bytes choose the number of heads: each divisor of the model's K is tried in memory by --method
similar on the two halves of --calibrate, before any training. --distill and gqa uptrain lower the loss further.

Examples:
  npx gqa convert models/llama-2-7b models/llama-2-7b-gqa8 --kv-heads 8
  npx gqa convert model.gguf mqa.gguf --kv-heads 1 --calibrate text.txt --report drift.html
  npx gqa convert model.gguf mqa.gguf --kv-heads 1 --distill --calibrate texts
  npx gqa convert model.gguf mqa.gguf --kv-heads 1 --calibrate text.txt --drift --drift-text mine.txt
  npx gqa convert model.gguf smaller.gguf --target 0.5 --calibrate texts
  npx gqa convert model.gguf smaller.gguf --kv-bytes 8KiB --calibrate texts
  npx gqa convert models/tiny-llama model.gguf --kv-heads 4 --dtype q8_0`;

export function convertCommand(): Command {
  const command = new Command('convert')
    .description('write a checkpoint with fewer (or more) key/value heads, and measure the drift')
    .argument('<in>', CHECKPOINT_HELP, parse.path)
    .argument('<out>', 'the directory to make, or a .gguf file', parse.path)
    .addOption(parse.named('--kv-heads <K>', 'numKeyValueHeads', HEADS_HELP, parse.positiveInteger))
    .option('--target <nats>', TARGET_HELP, parse.positiveNumber)
    .addOption(parse.named('--kv-bytes <size>', 'keyValueBytes', BYTES_HELP, parse.memorySize))
    .addOption(parse.oneOf('--method <name>', METHOD_HELP, METHODS))
    .option('--seed <n>', 'seed of --method random and of --distill', parse.wholeNumber, 0)
    .addOption(parse.oneOf('--dtype <dtype>', 'type of the weights (default: as stored)', DTYPES))
    .addOption(parse.oneOf('--format <name>', 'output format (default: by the ending of <out>)', KINDS))
    .addOption(
      parse.named('--calibrate <text>', 'calibration', `measure the drift on ${DATA_HELP}`, parse.path),
    )
    .option('--distill', 'train each converted layer to give what the original gives (with --calibrate)')
    .option('--steps <n>', 'training steps per layer (default: 400, with --distill)', parse.positiveInteger)
    .option(
      '--final-steps <n>',
      'steps after these in which all layers learn together (default: 80)',
      parse.wholeNumber,
    )
    .option('--resume', 'continue an interrupted --distill, with the same options')
    .option('--drift', 'measure the drift on prose, code and dialogue, and what both models write (minutes)')
    .option('--drift-text <text>', 'with --drift, a text of your own too; may be repeated', parse.moreText)
    .option('--report <file.html>', 'also write a page with the drift', parse.path);
  return addCacheOption(command)
    .option('--force', 'replace an existing checkpoint')
    .option('--json', 'print one JSON object')
    .addHelpText('after', helpEnd(about))
    .action(run);
}

async function run(from: string, to: string, flags: ConvertFlags): Promise<void> {
  const { seed, dtype, force, cache, report, calibration: path, steps, finalSteps, resume } = flags;
  const method = flags.method ?? (path === undefined ? 'mean' : 'similar');
  checkFlags(to, flags);
  const { calibration, text } =
    path === undefined
      ? {}
      : split(await readTrainingTexts(path), method === 'similar' || flags.distill === true);
  const distill =
    flags.distill && calibration !== undefined
      ? { text: calibration, steps, finalSteps, seed, resume }
      : undefined;
  const given = flags.drift || flags.driftText ? await heldOutTexts(flags.driftText) : undefined;
  if (report !== undefined) await checkPagePlace(report);
  const texts =
    text !== undefined || given
      ? await checkMeasurable(from, { path, calibration, text }, given, cache)
      : undefined;
  const { target, keyValueBytes, json } = flags;
  const chosen =
    calibration !== undefined && text !== undefined && flags.numKeyValueHeads === undefined
      ? await chooseHeads({ from, calibration, text, target, keyValueBytes, cache }, json)
      : undefined;
  const numKeyValueHeads = flags.numKeyValueHeads ?? chosen?.numKeyValueHeads;
  if (numKeyValueHeads === undefined) return;
  const label = `converting ${from} to K=${numKeyValueHeads} by ${method}${distill ? ' and distillation' : ''}`;
  const convert = (signal: AbortSignal) =>
    withProgress('converting', label, (update) =>
      convertCheckpoint({
        ...{ from, to, cache, numKeyValueHeads, method, seed, dtype, force, calibration },
        signal,
        onProgress: (done, total, _phase, activity) => update(done, total, activity),
        ...(distill && { distill }),
      }),
    );
  let result: ConvertResult | undefined;
  try {
    result = await unlessInterrupted(convert);
  } catch (error) {
    // Its message says what to do about the layers.
    if (distill && !(error instanceof RunConflictError)) await tellOfResume(to);
    throw error;
  }
  if (result === undefined) return distill && (await tellOfResume(to));
  const drift =
    text === undefined && texts === undefined
      ? undefined
      : await withProgress('measuring', 'measuring the drift', (onProgress) =>
          measureDrift({ from, to, cache, result, text, texts, onProgress }),
        );
  if (flags.json) {
    const { layers: _, ...rest } = result;
    writeJson({ from, to, trials: chosen?.trials, ...rest, drift });
  } else {
    writeResult(describe(to, result));
    if (drift) writeResult(`\n${driftText(drift)}`);
  }
  warnOfCost(result, drift);
  if (report !== undefined && drift) await writePage(report, driftPage(`${from} to ${to}`, drift));
}

/** After Ctrl-C or an error: where trained layers are, if there are any. */
async function tellOfResume(to: string): Promise<void> {
  const folder = trainedLayersFolder(await outputPlace(to));
  const layers = (await folder.list()).filter(({ name }) => name.startsWith('layer-')).length;
  if (layers === 0) return;
  writeNote(`stopped; trained layers are in ${folder.name} (${layers}): --resume continues`);
}

/** The texts to calibrate and to measure on: two halves of each given one, or all of them for measuring. */
function split(given: readonly string[], calibrates: boolean): { calibration?: string; text: string } {
  if (!calibrates) return { text: given.join('\n') };
  const halves = given.map((text) => {
    const lineEnd = text.lastIndexOf('\n', text.length / 2);
    const half = lineEnd > 0 ? lineEnd : Math.floor(text.length / 2);
    return [text.slice(0, half), text.slice(half)];
  });
  return {
    calibration: halves.map(([first]) => first).join('\n'),
    text: halves.map(([, second]) => second).join('\n'),
  };
}

/** Warns that the model is worse until it is uptrained: by how much, or that this was not measured. */
function warnOfCost({ numKeyValueHeads: K }: ConvertResult, drift: DriftReport | undefined): void {
  if (K.after >= K.before) return;
  if (drift === undefined) {
    writeNote(
      'gqa: warning: quality was not measured, and most models need gqa uptrain after this conversion; --drift measures it, and --calibrate <text> merges heads by --method similar, which loses less',
    );
    return;
  }
  const [before, after] = [drift.before.perplexity, drift.after.perplexity];
  if (after < 1.5 * before) return;
  writeNote(
    `gqa: warning: the perplexity rose from ${before.toFixed(2)} to ${after.toFixed(2)}; gqa uptrain recovers most of it`,
  );
}

function checkFlags(to: string, flags: ConvertFlags): void {
  const { format, report, calibration, drift, driftText, distill, steps, finalSteps, resume } = flags;
  const { numKeyValueHeads, target, keyValueBytes, method = 'similar' } = flags;
  const limits = [numKeyValueHeads, target, keyValueBytes].filter((limit) => limit !== undefined);
  if (limits.length !== 1) {
    const got = ['none', 'one', 'two', 'all'][limits.length];
    throw new UsageError(`expected one of --kv-heads, --target and --kv-bytes, got ${got}`);
  }
  if (numKeyValueHeads === undefined && (calibration === undefined || method !== 'similar')) {
    const got = calibration === undefined ? 'no --calibrate' : `--method ${method}`;
    throw new UsageError(`expected --calibrate and --method similar with --target or --kv-bytes, got ${got}`);
  }
  if (format !== undefined && format !== formatNamed(to).kind) {
    const ending = FORMATS.find(({ kind }) => kind === format)?.ending;
    const expected = ending === undefined ? 'a directory as <out>' : `an <out> that ends in ${ending}`;
    throw new UsageError(`expected ${expected} for --format ${format}, got ${to}`);
  }
  if (distill && calibration === undefined) {
    throw new UsageError('expected --calibrate with --distill, since layers are trained on a text');
  }
  if (steps !== undefined && !distill) throw new UsageError(`expected --distill with --steps ${steps}`);
  if (finalSteps !== undefined && !distill) {
    throw new UsageError(`expected --distill with --final-steps ${finalSteps}`);
  }
  if (resume && !distill) throw new UsageError('expected --distill with --resume');
  if (report !== undefined && calibration === undefined && !drift && !driftText) {
    throw new UsageError('expected --calibrate or --drift with --report, since drift is measured on a text');
  }
}

/**
 * Finds what would prevent the measurement before the conversion, which can take long.
 * @param given the halves of the text at `path`, or all of it as `text`
 * @returns the texts without characters that the tokenizer lacks
 * @throws RangeError for a text that is too short, Error without a tokenizer
 */
async function checkMeasurable(
  from: string,
  given: { readonly path?: string; readonly calibration?: string; readonly text?: string },
  texts: Readonly<Record<string, string>> | undefined,
  cache: string | undefined,
): Promise<Record<string, string> | undefined> {
  await using checkpoint = await openCheckpoint(from, { cache });
  const { makeTokenizer } = await checkpoint.format.text(checkpoint);
  const tokenizer = neededTokenizer(from, makeTokenizer)();
  // The beginning is enough to find two tokens; encoding a whole book takes a while.
  const lengthOf = (text: string) =>
    tokenizer.encode(text.slice(0, 1000), { addSpecialTokens: false }).length;
  const { path, calibration, text } = given;
  if (text !== undefined) {
    const lengths = [...(calibration === undefined ? [] : [calibration]), text].map(lengthOf);
    const where = calibration === undefined ? 'in the text' : 'in each half of the text';
    if (Math.min(...lengths) < 2) {
      throw new RangeError(`${path}: expected at least 2 tokens ${where}, got ${lengths.join(' and ')}`);
    }
  }
  if (texts === undefined) return undefined;
  const known = Object.entries(texts).map(([name, each]) => [name, knownText(tokenizer, name, each)]);
  for (const [name, each] of known) {
    const length = lengthOf(each);
    if (length < 2) throw new RangeError(`${name}: expected at least 2 tokens in the text, got ${length}`);
  }
  return Object.fromEntries(known);
}

function describe(to: string, result: ConvertResult): string {
  const { format, architecture, method, distill, numHeads, numKeyValueHeads: K, bytes, files } = result;
  return facts([
    ['wrote', to, `${format}, ${files.length === 1 ? '1 file' : `${files.length} files`}`],
    ['weights', exactSize(bytes)],
    ...(architecture === undefined ? [] : [['class', architecture] as const]),
    [
      'heads',
      `N=${numHeads}, K=${K.before} to ${K.after}`,
      K.after < K.before ? `${method}${distill ? ', distilled' : ''}` : 'repeated: the same model',
    ],
    ['KV cache', cacheText(K.before, K.after)],
  ]);
}

function cacheText(before: number, after: number): string {
  if (before === after) return 'unchanged';
  return `${partOf(before / after)}${after < before ? ' of' : ''} the size before`;
}
