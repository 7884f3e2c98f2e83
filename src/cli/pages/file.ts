/** The HTML page that a command writes. */
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { withFile } from '../../files/folder.ts';
import { findPath } from '../../files/node-folder.ts';
import { outputPlace } from '../../files/place.ts';
import { writeNote } from '../output.ts';

/**
 * Checks before long work that a page may be written to `path`.
 * @throws Error when `path` exists and is not a page, or its folder is not writable
 */
export async function checkPagePlace(path: string): Promise<void> {
  await access(dirname(resolve(path)), constants.W_OK);
  if ((await findPath(path)) === undefined) return;
  const { folder, file } = await outputPlace(path);
  await withFile(folder, file, async (source) => {
    const start = new TextDecoder().decode(await source.read(0, Math.min(source.size, 15)));
    if (source.size > 0 && start.toLowerCase() !== '<!doctype html>') {
      throw new Error(
        `${path}: expected nothing there, or a page to replace, got another file of ${source.size} bytes`,
      );
    }
  });
}

/** Writes a page and prints its path. @throws as `checkPagePlace` */
export async function writePage(path: string, html: string): Promise<void> {
  await checkPagePlace(path);
  const { folder, file } = await outputPlace(path);
  await folder.write(file, html);
  writeNote(`wrote ${path}`);
}
