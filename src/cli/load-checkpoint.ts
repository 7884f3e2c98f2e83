/**
 * The checkpoint that a command runs: the help of its argument, `--cache`, `--no-mmap`, and loading it with
 * progress.
 */
import type { Command } from 'commander';
import { findPath } from '../files/node-folder.ts';
import { hubIdUrl } from '../files/source.ts';
import { loadModel, type Model } from '../models/index.ts';
import * as parse from './options.ts';
import { withProgress } from './progress.ts';

export interface CacheFlag {
  readonly cache?: string;
}

export interface LoadFlags extends CacheFlag {
  readonly mmap: boolean;
}

/** The help of an argument or option that names a checkpoint. */
export const CHECKPOINT_HELP = 'a folder, file, address or org/name';

export function addCacheOption(command: Command): Command {
  return command.option(
    '--cache <folder>',
    'keep the files of an address or org/name in this folder (default: download them each time)',
    parse.path,
  );
}

/** The options of commands that run a model. */
export function addLoadOptions(command: Command): Command {
  return addCacheOption(command).option(
    '--no-mmap',
    'read files into memory instead of mapping them: slower to load, takes more memory, decodes faster',
  );
}

/** Loads a model. Where stderr is no terminal, only a download is printed. */
export async function loadWithProgress(checkpoint: string, { cache, mmap }: LoadFlags): Promise<Model> {
  const isRemote =
    /^https?:/i.test(checkpoint) || (hubIdUrl(checkpoint) && (await findPath(checkpoint)) === undefined);
  // Without a cache the weights of an address go straight into place.
  const label = isRemote && cache === undefined ? 'downloading' : undefined;
  return withProgress(label ?? 'loading', isRemote ? `fetching ${checkpoint}` : undefined, (update) =>
    loadModel(checkpoint, {
      cache,
      useMmap: mmap,
      onProgress: (done, total, phase) => update(done, total, label ?? phase),
    }),
  );
}
