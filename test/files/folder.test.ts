/** The contract of `Folder`, run on every implementation. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { FolderInUseError, isInside, readSmallText, withFile } from '../../src/files/folder.ts';
import { HandleFolder } from '../../src/files/handle-folder.ts';
import { MemoryFolder } from '../../src/files/memory-folder.ts';
import { NodeFolder, splitPath } from '../../src/files/node-folder.ts';
import { FormatError } from '../../src/format/format-error.ts';
import { FakeDirectory } from './fake-directory.ts';

const made: string[] = [];
afterAll(() => {
  for (const path of made) rmSync(path, { recursive: true, force: true });
});

function temporary(): string {
  made.push(mkdtempSync(join(tmpdir(), 'gqa-folder-')));
  return made[made.length - 1];
}

const KINDS = {
  NodeFolder: () => new NodeFolder(temporary()),
  MemoryFolder: () => new MemoryFolder(),
  HandleFolder: () => new HandleFolder(new FakeDirectory('picked')),
};
const bytes = (...values: number[]) => Uint8Array.from(values);
const namesIn = async (folder: Pick<NodeFolder, 'list'>) =>
  (await folder.list()).map(({ name, kind }) => `${name} ${kind}`);

describe.each(Object.entries(KINDS))('%s', (_, make) => {
  test('files are read at any place, whole, and never past their end', async () => {
    const folder = make();
    await folder.write('a', bytes(1, 2, 3, 4, 5));
    const source = (await folder.open('a'))!;
    expect(source.name).toBe(folder.nameOf('a'));
    expect(source.size).toBe(5);
    expect(await source.read(1, 3)).toEqual(bytes(2, 3, 4));
    const target = new Uint8Array(2);
    await source.readInto(3, target);
    expect(target).toEqual(bytes(4, 5));
    await expect(source.read(3, 3)).rejects.toThrow('expected a read inside its 5 bytes');
    await source.close();
    expect(await source.read(0, 1)).toEqual(bytes(1));
    await source.close();
    await source.close();
  });

  test('what is not there is undefined, empty, or an error that names it', async () => {
    const folder = make();
    expect(await folder.open('none')).toBeUndefined();
    expect(await readSmallText(folder, 'none')).toBeUndefined();
    expect(await folder.folder('none').list()).toEqual([]);
    expect(await folder.folder('none').open('x')).toBeUndefined();
    const reading = withFile(folder, 'none', async () => 1);
    await expect(reading).rejects.toThrow(FormatError);
    await expect(reading).rejects.toThrow(`${folder.nameOf('none')}: expected a file, got nothing there`);
    await folder.remove('none');
  });

  test('a file too large to be read whole is refused', async () => {
    const folder = make();
    await folder.write('a', 'four');
    expect(await readSmallText(folder, 'a', 4)).toBe('four');
    await expect(readSmallText(folder, 'a', 3)).rejects.toThrow('expected at most 3 bytes, got 4');
  });

  test('list: by name, with kinds', async () => {
    const folder = make();
    await folder.write('b', '');
    await folder.write('a', '');
    const inner = folder.folder('c');
    await inner.create();
    await inner.write('d', 'x');
    expect(await namesIn(folder)).toEqual(['a file', 'b file', 'c folder']);
    expect(await namesIn(inner)).toEqual(['d file']);
    await folder.remove('c');
    await folder.remove('a');
    expect(await namesIn(folder)).toEqual(['b file']);
  });

  test('write: at any place, gaps are zeros, the end is where it was put', async () => {
    const folder = make();
    await folder.write('a', async (file) => {
      await file.write(bytes(9, 9), 4);
      await file.write(bytes(1), 0);
      await file.sync();
      await file.truncate(8);
    });
    await withFile(folder, 'a', async (source) => {
      expect([...(await source.read(0, source.size))]).toEqual([1, 0, 0, 0, 9, 9, 0, 0]);
    });
  });

  test('write: replaces a file as a whole, or leaves it; who has it open reads the old one', async () => {
    const folder = make();
    await folder.write('a', 'old');
    const before = (await folder.open('a'))!;
    const failing = folder.write('a', async (file) => {
      await file.write(bytes(1), 0);
      throw new Error('no more');
    });
    await expect(failing).rejects.toThrow('no more');
    expect(await readSmallText(folder, 'a')).toBe('old');
    expect(await namesIn(folder)).toEqual(['a file']);
    await folder.write('a', 'new');
    expect(await readSmallText(folder, 'a')).toBe('new');
    expect(new TextDecoder().decode(await before.read(0, 3))).toBe('old');
    await before.close();
  });

  test('append', async () => {
    const folder = make();
    await folder.append('log', 'one\n');
    await folder.append('log', 'zwei ü\n');
    expect(await readSmallText(folder, 'log')).toBe('one\nzwei ü\n');
  });

  test('replace: a folder is there whole or as it was', async () => {
    const folder = make();
    await folder.replace('run', async (inner) => {
      await inner.write('a', '1');
      await inner.folder('deep').create();
      await inner.folder('deep').write('b', '2');
    });
    expect(await namesIn(folder.folder('run'))).toEqual(['a file', 'deep folder']);
    expect(await readSmallText(folder.folder('run').folder('deep'), 'b')).toBe('2');

    await expect(folder.replace('run', (inner) => inner.write('c', '3'))).rejects.toThrow(
      `${folder.nameOf('run')}: expected nothing there, got a folder`,
    );
    const failing = async () => {
      throw new Error('no more');
    };
    await expect(folder.replace('run', failing, { overwrite: true })).rejects.toThrow('no more');
    expect(await namesIn(folder.folder('run'))).toEqual(['a file', 'deep folder']);

    await folder.replace('run', (inner) => inner.write('c', '3'), { overwrite: true });
    expect(await namesIn(folder.folder('run'))).toEqual(['c file']);
    expect(await namesIn(folder)).toEqual(['run folder']);
  });

  test('lock: one at a time', async () => {
    const folder = make();
    const unlock = await folder.lock();
    await expect(folder.lock()).rejects.toThrow(FolderInUseError);
    await expect(folder.lock()).rejects.toThrow(new RegExp(`${folder.name}: this (process|page)`));
    unlock();
    (await folder.lock())();
    expect(await folder.list()).toEqual([]);
  });

  test('location: the same for the same place, and inside of the folder', async () => {
    const folder = make();
    const own = await folder.location();
    expect(await folder.location('a')).toBe(await folder.folder('a').location());
    expect(isInside(await folder.folder('a').location('b'), own)).toBe(true);
    expect(isInside(own, own)).toBe(true);
    expect(isInside(await folder.location('ab'), await folder.location('a'))).toBe(false);
    expect(isInside(await make().location('a'), own)).toBe(false);
  });

  test('space', async () => {
    expect(await make().space('a')).toBeGreaterThan(0);
  });
});

test('a file where a folder belongs is one error, without a code of the system', async () => {
  const folder = new NodeFolder(temporary());
  await folder.write('file', 'x');
  const path = join(folder.path, 'file');
  for (const inner of [new NodeFolder(path), new NodeFolder(join(path, 'deep'))]) {
    const message = `${inner.path}: expected a folder, got a file at this path or above it`;
    await expect(inner.create()).rejects.toThrow(message);
    await expect(inner.write('a', 'x')).rejects.toThrow(message);
    await expect(inner.replace('a', async () => {})).rejects.toThrow(message);
  }
});

test('a file is not written over a folder, nor into one that is not there', async () => {
  const folder = new NodeFolder(temporary());
  await folder.folder('a').create();
  await expect(folder.write('a', 'x')).rejects.toThrow(
    `${join(folder.path, 'a')}: expected a file or nothing at this path, got a folder`,
  );
  const none = folder.folder('b');
  await expect(none.write('c', 'x')).rejects.toThrow(`${none.path}: expected a folder, got nothing`);
  expect(await folder.list()).toEqual([{ name: 'a', kind: 'folder' }]);
});

describe('NodeFolder', () => {
  test('another file at the place of the one that was opened is an error, in every way of reading', async () => {
    const folder = new NodeFolder(temporary());
    await folder.write('a', 'old');
    const source = (await folder.open('a'))!;
    await source.close();
    await folder.write('a', 'new');
    const replaced = 'expected the file whose header was read, got another one in its place';
    await expect(source.read(0, 1)).rejects.toThrow(replaced);
    let isClosed = false;
    const opened = {
      size: 3,
      close: () => {
        isClosed = true;
      },
    };
    expect(() => source.openByPath!(() => opened)).toThrow(replaced);
    expect(isClosed).toBe(true);
    await source.close();
  });

  test('errors call files as their path was given', async () => {
    const root = temporary();
    for (const path of ['x', './x', '../y/x', `${root}//x`]) {
      const { folder, file } = splitPath(path);
      expect(folder.nameOf(file)).toBe(path);
    }
    expect(splitPath('.').file).toBe(process.cwd().split(/[/\\]/).at(-1));
    const { folder, file } = splitPath(join(root, 'new', 'x'));
    await expect(folder.write(file, 'a')).rejects.toThrow('expected a folder, got nothing');
    expect(existsSync(join(root, 'new'))).toBe(false);
    await folder.create();
    await folder.write(file, 'a');
    expect(readFileSync(join(root, 'new', 'x'), 'utf8')).toBe('a');
  });
});
