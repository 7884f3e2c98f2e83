/** `gqa eval`: the loss of a checkpoint on a text. */
import { Command } from 'commander';
import { getBackend } from '../backend/index.ts';
import { eventLoopTurn } from '../tensor/event-loop.ts';
import { documentStart } from '../text/documents.ts';
import { evaluationPasses, type TextLoss } from '../train/evaluate-text.ts';
import { addBackendOptions, type BackendFlags, useBackend } from './backend-options.ts';
import { addLoadOptions, CHECKPOINT_HELP, type LoadFlags, loadWithProgress } from './load-checkpoint.ts';
import * as parse from './options.ts';
import { count, helpEnd, writeJson, writeResult } from './output.ts';
import { startProgress } from './progress.ts';
import { DATA_HELP, knownText, neededTokenizer, readTrainingText } from './read-text.ts';
import { facts } from './table.ts';

interface EvalFlags extends BackendFlags, LoadFlags {
  readonly data: string;
  readonly context?: number;
}

const example = `
Examples:
  npx gqa eval run/step-2000 --data moby-dick
  npx gqa eval model.gguf --data book.txt --context 512 --json`;

/** A pass blocks the event loop, which delays Ctrl-C: keep the batches small. */
const TOKENS_PER_PASS = 2048;

export function evalCommand(): Command {
  const command = new Command('eval')
    .description('measure the loss, perplexity and bits per character of a checkpoint on a text')
    .argument('<checkpoint>', `${CHECKPOINT_HELP}, with a tokenizer`, parse.path)
    .requiredOption('--data <text>', DATA_HELP, parse.path)
    .option('--context <n>', "tokens per window (default: the model's, at most 1024)", parse.positiveInteger);
  addLoadOptions(command);
  return addBackendOptions(command).addHelpText('after', helpEnd(example)).action(run);
}

async function run(path: string, flags: EvalFlags): Promise<void> {
  await useBackend(flags);
  const given = await readTrainingText(flags.data);
  const model = await loadWithProgress(path, flags);
  // Build the tokenizer before the note is printed, so that a damaged file gives one line only.
  const tokenizer = neededTokenizer(path, model.tokenizer);
  const progress = startProgress('evaluating', `evaluating ${path} on ${getBackend().description}`);
  try {
    const limit = model.config.maxPositionEmbeddings;
    const context = Math.min(flags.context ?? Math.min(limit, 1024), limit);
    const text = knownText(tokenizer, flags.data, given);
    const start = documentStart(tokenizer);
    const tokens = tokenizer.encode(text, { addSpecialTokens: false });
    if (start.length + tokens.length < 2) {
      throw new Error(`${flags.data}: expected a text of at least 2 tokens, got ${tokens.length}`);
    }
    const batchSize = Math.min(8, Math.max(1, Math.floor(TOKENS_PER_PASS / context)));
    const options = { context, start, batchSize, onProgress: progress.update };
    const { loss, predicted } = await evaluated(evaluationPasses(model, tokens, options));
    const characters = [...text].length;
    progress.stop();
    if (!Number.isFinite(loss)) {
      throw new Error(`${path}: expected weights that give a finite loss, got ${loss}`);
    }
    const result = {
      loss,
      perplexity: Math.exp(loss),
      bitsPerCharacter: (loss * predicted) / characters / Math.LN2,
      tokens: predicted,
      characters,
      context,
    };
    if (flags.json) writeJson({ checkpoint: path, data: flags.data, ...result });
    else {
      writeResult(
        facts([
          ['loss', loss.toFixed(4), 'nats per token'],
          ['perplexity', result.perplexity.toFixed(3)],
          ['bits per character', result.bitsPerCharacter.toFixed(4)],
          ['tokens', count(predicted), `in windows of ${count(context)}`],
        ]),
      );
    }
  } finally {
    progress.stop();
    model.dispose();
  }
}

async function evaluated(passes: Generator<void, TextLoss>): Promise<TextLoss> {
  for (;;) {
    const pass = passes.next();
    if (pass.done) return pass.value;
    await eventLoopTurn();
  }
}
