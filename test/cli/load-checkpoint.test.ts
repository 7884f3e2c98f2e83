/** `--no-mmap` reads the weights, so that the model does not need its file. */
import { truncateSync } from 'node:fs';
import { Command } from 'commander';
import { expect, test } from 'vitest';
import { addLoadOptions, type LoadFlags, loadWithProgress } from '../../src/cli/load-checkpoint.ts';
import { withTinyCheckpoint } from './tiny-checkpoint.ts';

test('--no-mmap', () =>
  withTinyCheckpoint({}, async (folder) => {
    const command = addLoadOptions(new Command()).parse(['--no-mmap'], { from: 'user' });
    const model = await loadWithProgress(folder, command.opts<LoadFlags>());
    const logits = () => model.forward([[5, 6, 7]]).dataSync();
    const before = logits();
    truncateSync(`${folder}/model.safetensors`, 0);
    expect(logits()).toEqual(before);
    model.dispose();
  }));
