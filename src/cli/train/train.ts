/**
 * `gqa train`: trains a GPT with any number of key/value heads on a text, by nanoGPT's recipe. Losses go to
 * `metrics.jsonl` and a page of curves; checkpoints are Hugging Face directories with the state to resume
 * from.
 */
import { Command } from 'commander';
import { openCheckpoint } from '../../checkpoint/open-checkpoint.ts';
import { llamaConfig } from '../../models/llama-config.ts';
import { createModel } from '../../models/trainable-model.ts';
import { matmulPrecision, refuseInt8 } from '../../ops/matmul-precision.ts';
import { characterTokenizer } from '../../text/character-tokenizer.ts';
import type { Tokenizer, WritableTokenizer } from '../../text/tokenizer.ts';
import { huggingFaceForm } from '../../train/checkpoint-form.ts';
import { openRun, type PreparedRun, prepareRun } from '../../train/prepare-run.ts';
import { trainerSettings } from '../../train/trainer.ts';
import { addBackendOptions, useBackend } from '../backend-options.ts';
import { UsageError } from '../errors.ts';
import { helpEnd } from '../output.ts';
import { neededTokenizer, readTrainingText } from '../read-text.ts';
import { addTrainingFlags, settingsOf, type TrainFlags, withFlagsOfRun } from './flags.ts';
import { trainRun } from './run.ts';

const example = `
Examples:
  npx gqa train --data moby-dick --out run --heads 4 --kv-heads 2
  npx gqa train --data notes/ --out run --layers 6 --dim 384 --heads 6 --kv-heads 2 --block 256 --batch 16
  npx gqa train --data small.txt --out run --dropout 0.2
  npx gqa train --data moby-dick --out run --resume
  npx gqa generate run/step-2000 --prompt "Call me" --temperature 0.8`;

export function trainCommand(): Command {
  const command = new Command('train').description(
    'train a GPT with any number of key/value heads on a text',
  );
  return addBackendOptions(addTrainingFlags(command, 'train'), 'print one JSON object at the end')
    .addHelpText('after', helpEnd(example))
    .action(run);
}

async function run(given: TrainFlags, command: Command): Promise<void> {
  const flags = await withFlagsOfRun(given, command);
  const { numHeads: N, numKeyValueHeads: K = N } = flags;
  if (N % K !== 0) throw new UsageError(`--kv-heads must divide --heads, got K=${K} and N=${N}`);
  await useBackend(flags);
  await trainRun(`gqa train: ${flags.data}`, await prepareTraining(flags), flags);
}

async function prepareTraining(flags: TrainFlags): Promise<PreparedRun> {
  refuseInt8('train', matmulPrecision());
  const opened = await openRun(flags.out, flags.resume ?? false);
  const text = await readTrainingText(flags.data);
  const { files, ...tokenized } = await tokenize(text, flags.tokenizer);
  const { vocabSize } = tokenized;
  const { numLayers, numHeads, numKeyValueHeads = numHeads, hiddenSize = 32 * numHeads } = flags;
  const { steps, blockLength: maxPositionEmbeddings, seed } = flags;
  const sizes = { vocabSize, hiddenSize, numLayers, numHeads, numKeyValueHeads, maxPositionEmbeddings };
  const { validation, ...training } = settingsOf(flags);
  const settings = { ...trainerSettings({ ...training, steps }), validation };
  return await prepareRun({
    ...{ opened, ...tokenized, settings, sizes },
    initialModel: () => createModel(llamaConfig(sizes), { seed }),
    form: (model) => huggingFaceForm(model.configJson ?? {}, files),
    recipe: (step) => ({ training: { settings, step }, uptraining: [] }),
  });
}

/** The tokens of a text, and the tokenizer files for a checkpoint. */
interface Tokenized {
  readonly tokens: Int32Array;
  readonly vocabSize: number;
  readonly files: ReadonlyMap<string, Uint8Array>;
  readonly tokenizer: Tokenizer;
}

/** @param path a checkpoint whose tokenizer is used; without it each character is a token. */
async function tokenize(text: string, path: string | undefined): Promise<Tokenized> {
  const utf8 = new TextEncoder();
  if (path === undefined) {
    const tokenizer = characterTokenizer(text);
    const { vocabSize } = tokenizer;
    const tokens = Int32Array.from(tokenizer.encode(text));
    return { tokens, vocabSize, files: await (tokenizer as WritableTokenizer).files(), tokenizer };
  }
  await using checkpoint = await openCheckpoint(path);
  const { makeTokenizer } = await checkpoint.format.text(checkpoint);
  const tokenizer = neededTokenizer(path, makeTokenizer)();
  const files = new Map<string, Uint8Array>();
  for (const name of ['tokenizer.json', 'tokenizer_config.json']) {
    const json = await checkpoint.readText(name);
    if (json !== undefined) files.set(name, utf8.encode(json));
  }
  if (!files.has('tokenizer.json')) {
    throw new Error(`${path}: expected a tokenizer.json to copy into the new checkpoint, got none`);
  }
  const tokens = Int32Array.from(tokenizer.encode(text, { addSpecialTokens: false }));
  return { tokens, vocabSize: tokenizer.vocabSize, files, tokenizer };
}
