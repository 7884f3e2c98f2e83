/**
 * Locks of a folder taken by several processes at the same time, with and without the lock of a killed
 * process.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FolderInUseError } from '../../src/files/folder.ts';
import { lockFolder } from '../../src/files/node-lock.ts';

const PROCESSES = 3;
const ROUNDS = 20;
const module = new URL('../../dist/files/node-lock.js', import.meta.url).href;
/** Waits for the moment that it is told, takes the lock, says whether it has it, and holds it until it is told. */
const CHILD = `
import { lockFolder } from ${JSON.stringify(module)};
let unlock;
process.on('message', ({ folder, at }) => {
  if (folder === undefined) { unlock(); process.send('free'); return; }
  while (Date.now() < at);
  try { unlock = lockFolder(folder); } catch (error) { process.send(error.name); return; }
  process.send('held');
});
process.send('ready');
`;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'gqa-lock-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('lockFolder', () => {
  test('is refused while held, also by this process, and free afterwards', () => {
    const unlock = lockFolder(folder);
    expect(() => lockFolder(folder)).toThrow(FolderInUseError);
    expect(() => lockFolder(folder)).toThrow(/this process is training there \(its lock file is \.lock-/);
    unlock();
    lockFolder(folder)();
    expect(readdirSync(folder)).toEqual([]);
  });

  test('takes over what a process left that is gone, or whose id another has now', () => {
    const host = encodeURIComponent(hostname());
    for (const left of [
      `.lock-${host}-999999999-1-a`,
      `.lock-${host}-${process.pid}-1-a`,
      '.lock-other-1-1-a',
    ]) {
      writeFileSync(join(folder, left), '');
      lockFolder(folder)();
      expect(readdirSync(folder)).toEqual([]);
    }
  });

  test(`${ROUNDS} times ${PROCESSES} processes at once: never held twice`, { timeout: 120_000 }, async () => {
    const script = join(folder, 'child.mjs');
    writeFileSync(script, CHILD);
    const children = Array.from({ length: PROCESSES }, () => fork(script));
    try {
      await Promise.all(children.map((child) => once(child, 'message')));
      for (let round = 0; round < ROUNDS; round++) {
        const place = mkdtempSync(join(folder, 'run-'));
        // Every other time with the file of a process that is gone.
        if (round % 2)
          writeFileSync(join(place, `.lock-${encodeURIComponent(hostname())}-999999999-1-a`), '');
        const answers = children.map(async (child) => (await once(child, 'message'))[0] as string);
        const at = Date.now() + 20;
        for (const child of children) child.send({ folder: place, at });
        const said = await Promise.all(answers);
        expect(said.filter((word) => word === 'held').length).toBeLessThanOrEqual(1);
        expect(said.every((word) => word === 'held' || word === 'FolderInUseError')).toBe(true);
        const holder = children[said.indexOf('held')];
        if (holder) {
          holder.send({});
          await once(holder, 'message');
        }
        expect(readdirSync(place)).toEqual([]);
      }
    } finally {
      for (const child of children) child.kill();
    }
  });
});
