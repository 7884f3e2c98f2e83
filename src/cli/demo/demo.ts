/**
 * `gqa demo`: converts, distils and measures the bundled multi-head model. It writes the checkpoints, a page
 * and the numbers into a folder, all of them or none.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { splitPath } from '../../files/node-folder.ts';
import { matmulPrecision, refuseInt8 } from '../../ops/matmul-precision.ts';
import { addBackendOptions, type BackendFlags, useBackend } from '../backend-options.ts';
import { exitCode, UsageError } from '../errors.ts';
import { untilInterrupt } from '../interrupt.ts';
import * as parse from '../options.ts';
import { helpEnd, outColors, shellLines, wrapped, writeJson, writeNote, writeResult } from '../output.ts';
import { demoPage } from '../pages/demo.ts';
import { PROMPT } from './measure.ts';
import type { DemoResult } from './result.ts';
import { type DemoScale, runDemo } from './run.ts';
import { demoCommands, demoNote, demoSentence, demoTable } from './text.ts';

interface DemoFlags extends BackendFlags {
  readonly out: string;
  readonly quick?: true;
  readonly steps?: number;
}

/** The results; its presence marks a folder written by a demo. */
const RESULT_FILE = 'demo.json';
const PAGE_FILE = 'report.html';
/** The names that a demo writes. */
const OWN_NAMES = /^(demo\.json|report\.html|moby-dick\.txt|held-out\.txt|k\d+(-converted)?)$/;

const about = `
The bundled model is a character-level GPT of 1.8 million parameters, trained on Moby-Dick. The demo writes a
folder with the original (k6), converted (k2-converted, k1-converted) and distilled models (k2, k1) as Hugging Face
directories, the text, report.html and demo.json. A folder that a demo wrote is replaced; any other folder must be
empty.

Examples:
  npx gqa demo
  npx gqa demo --quick
  npx gqa demo --out somewhere --backend wasm --json`;

export function demoCommand(): Command {
  const command = new Command('demo')
    .description('convert, distil and compare a bundled model (a few minutes, offline)')
    .option('--out <folder>', 'folder for checkpoints and the page', parse.path, 'gqa-demo')
    .option('--quick', 'a shorter run: under half a minute')
    .option(
      '--steps <n>',
      'steps of distillation per layer (default: 200, with --quick 40)',
      parse.positiveInteger,
    );
  return addBackendOptions(command, 'print one JSON object instead of the text')
    .addHelpText('after', helpEnd(about))
    .action(run);
}

async function run(flags: DemoFlags): Promise<void> {
  const { out } = flags;
  checkPlace(out);
  await useBackend(flags);
  refuseInt8('demo', matmulPrecision());
  const say = flags.json ? () => {} : writeResult;
  await untilInterrupt(async (signal) => {
    try {
      await makeDemo(flags, say, signal);
    } catch (error) {
      if (!signal.aborted) throw error;
      writeNote(`stopped: nothing was written to ${out}`);
      process.exitCode = exitCode.interrupted;
    }
  }, 'SIGTERM');
}

async function makeDemo(flags: DemoFlags, say: (text: string) => void, signal: AbortSignal): Promise<void> {
  const { out } = flags;
  let result!: DemoResult;
  const { folder: parent, file: name } = splitPath(out);
  await parent.replace(
    name,
    async (folder) => {
      result = await runDemo({ folder: folder.path, say, scale: scaleOf(flags), signal });
      await folder.write(PAGE_FILE, demoPage(out, result));
      const json = JSON.stringify({ demo: 1, ...result }, null, 2);
      await folder.write(RESULT_FILE, `${json}\n`);
    },
    { overwrite: true },
  );
  if (flags.json) writeJson({ out, report: join(out, PAGE_FILE), ...result });
  else conclude(out, result);
}

/** The work of one run. On two cores it takes under two minutes natively, under four on WebAssembly. */
function scaleOf({ quick, steps }: DemoFlags): DemoScale {
  const scale = quick
    ? { steps: 40, finalSteps: 8, validationWindows: 4, decodeBatch: 4 }
    : { steps: 200, finalSteps: 40, validationWindows: 16, decodeBatch: 8 };
  return { ...scale, ...(steps !== undefined && { steps }) };
}

function conclude(out: string, result: DemoResult): void {
  const last = result.converted[result.converted.length - 1];
  writeResult(
    `\nWith K=${last.numKeyValueHeads} it now writes:\n\n${wrapped(`${PROMPT}${last.sample} …`, '    ')}\n`,
  );
  writeResult(demoTable(result));
  writeResult(`\n${outColors.dim(wrapped(demoNote(result)))}`);
  writeResult(`\n${wrapped(demoSentence(result))}\n`);
  writeResult(
    `${outColors.bold('report')}  ${join(out, PAGE_FILE)}  (${Math.round(result.seconds)} s in total)`,
  );
  const commands = demoCommands(out, result).map((command) => `  ${shellLines(command)}`);
  writeResult(`${outColors.bold('try next')}\n${commands.join('\n')}`);
}

/** @throws UsageError when `out` exists and was not written by a demo */
function checkPlace(out: string): void {
  const found = statSync(out, { throwIfNoEntry: false });
  if (found === undefined) return;
  const refuse = (what: string) =>
    new UsageError(`${out}: expected no folder, an empty one or one that a demo wrote, got ${what}`);
  if (!found.isDirectory()) throw refuse('a file');
  const entries = readdirSync(out);
  if (entries.length === 0) return;
  if (!isDemo(join(out, RESULT_FILE)))
    throw refuse(`one without a demo's ${RESULT_FILE}; choose another --out`);
  const other = entries.find((name) => !OWN_NAMES.test(name));
  if (other !== undefined) throw refuse(`one that also holds ${other}; choose another --out`);
}

function isDemo(path: string): boolean {
  if (!existsSync(path)) return false;
  try {
    return JSON.parse(readFileSync(path, 'utf8')).demo === 1;
  } catch {
    return false;
  }
}
