#!/usr/bin/env node
/**
 * The command line, `npx gqa <command>`: one file per command, here, in `demo/` and in `train/`. Exit codes
 * and the form of failures are in `errors.ts`.
 */
import { createRequire } from 'node:module';
import { Command, CommanderError } from 'commander';
import { chatCommand } from './chat.ts';
import { convertCommand } from './convert.ts';
import { demoCommand } from './demo/demo.ts';
import { exitCode, type FlagNames, oneLine, reportFailure } from './errors.ts';
import { evalCommand } from './eval.ts';
import { generateCommand } from './generate.ts';
import { inspectCommand } from './inspect.ts';
import { handleInterrupts } from './interrupt.ts';
import { helpEnd, writeNote } from './output.ts';
import { planCommand } from './plan.ts';
import { playCommand } from './play.ts';
import { quantizeCommand } from './quantize.ts';
import { trainCommand } from './train/train.ts';
import { uptrainCommand } from './train/uptrain.ts';

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };

function makeProgram(): Command {
  const program = new Command('gqa')
    .description(
      'Grouped-query attention: inspect checkpoints, plan KV caches, convert, train and run models',
    )
    .version(version)
    .configureHelp({ showGlobalOptions: false, minWidthToWrap: 20 })
    .configureOutput({
      outputError: (message) => writeNote(`gqa: ${oneLine(message.replace(/^error: /, ''))}`),
    })
    .exitOverride();
  for (const command of [
    demoCommand(),
    playCommand(),
    inspectCommand(),
    planCommand(),
    convertCommand(),
    quantizeCommand(),
    generateCommand(),
    chatCommand(),
    trainCommand(),
    uptrainCommand(),
    evalCommand(),
  ]) {
    program.addCommand(command.copyInheritedSettings(program));
  }
  return program.addHelpText('after', helpEnd('\nExamples:\n  npx gqa demo\n  npx gqa inspect model.gguf'));
}

/** The long flag of each option by the name of its value. */
function flagNames(command: Command | undefined): FlagNames {
  return new Map(command?.options.map((option) => [option.attributeName(), `${option.long}`]));
}

/** @returns the exit code; commander has printed its own messages */
async function main(args: readonly string[]): Promise<number> {
  let command: Command | undefined;
  const program = makeProgram().hook('preAction', (_, action) => {
    command = action;
  });
  try {
    await program.parseAsync(args, { from: 'user' });
    return Number(process.exitCode ?? exitCode.done);
  } catch (error) {
    if (!(error instanceof CommanderError)) return reportFailure(error, flagNames(command));
    return error.exitCode === 0 ? exitCode.done : exitCode.wrongUsage;
  }
}

// A closed pipe (`gqa inspect … | head`) is no failure; a full disk is.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  process.exit(error.code === 'EPIPE' ? exitCode.done : reportFailure(error));
});
process.stderr.on('error', (error: NodeJS.ErrnoException) => {
  process.exit(error.code === 'EPIPE' ? exitCode.done : exitCode.failed);
});

handleInterrupts();
process.exitCode = await main(process.argv.slice(2));
