/** Folders of a test, which are removed at its end. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';

const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true });
});

export function freshFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'gqa-page-'));
  folders.push(folder);
  return folder;
}

/** A folder with the content of a .zip file, which unzip finds whole; undefined where there is no unzip. */
export function unzip(path: string): string | undefined {
  const folder = freshFolder();
  try {
    console.log(execFileSync('unzip', ['-t', path], { encoding: 'utf8' }));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    console.warn('skipping the content of the .zip file: there is no unzip');
    return undefined;
  }
  execFileSync('unzip', ['-q', path, '-d', folder]);
  return folder;
}
