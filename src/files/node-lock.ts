/**
 * One process at a time in a folder. Each process writes a file of its own and then looks for the files of others, so that of two
 * that start together at least one sees the other, and removing what a killed process left can never remove a live one's file.
 */
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { FolderInUseError } from './folder.ts';

/** Who holds a folder. All of it stands in the file's name: a name is there whole or not at all. */
interface Holder {
  readonly host: string;
  readonly pid: number;
  /** When that process began, in ticks since the machine did, on Linux; empty elsewhere. A process id may be given out again. */
  readonly began: string;
}

/** `.lock-HOST-PID-BEGAN-UNIQUE`, the host encoded as in a URL. */
const NAME = /^\.lock-(.+)-(\d+)-(\d*)-[0-9a-z]+$/;
/** Two that start together both step back, and try again after different times. */
const ATTEMPTS = 5;
const LONGEST_WAIT_MS = 40;

/**
 * Takes the folder for this process. The files of processes that are gone, killed or crashed, are removed.
 * A process on another machine cannot be asked, and counts as gone.
 * @returns gives it back
 * @throws FolderInUseError while another holds it
 */
export function lockFolder(folder: string): () => void {
  const unique = Math.random().toString(36).slice(2);
  const host = encodeURIComponent(hostname());
  const own = `.lock-${host}-${process.pid}-${beginningOf(process.pid)}-${unique}`;
  const unlock = () => rmSync(join(folder, own), { force: true });
  for (let attempt = 1; ; attempt++) {
    writeFileSync(join(folder, own), '', { flag: 'wx' });
    const other = holders(folder).find(({ name }) => name !== own);
    if (other === undefined) return unlock;
    unlock();
    if (attempt === ATTEMPTS) throw inUse(folder, other);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Math.random() * LONGEST_WAIT_MS);
  }
}

function inUse(folder: string, { pid, name }: Holder & { name: string }): FolderInUseError {
  const who = pid === process.pid ? 'this process' : `process ${pid}`;
  return new FolderInUseError(
    `${folder}: ${who} is training there (its file ${name} says so); choose another folder, or wait for it to end`,
  );
}

/** Those that are alive; the files of the others are removed. */
function holders(folder: string): (Holder & { name: string })[] {
  const alive: (Holder & { name: string })[] = [];
  for (const name of readdirSync(folder)) {
    const [, host, pid, began] = NAME.exec(name) ?? [];
    if (host === undefined) continue;
    const holder = { host: decodeURIComponent(host), pid: Number(pid), began, name };
    if (isAlive(holder)) alive.push(holder);
    else rmSync(join(folder, name), { force: true });
  }
  return alive;
}

function isAlive({ host, pid, began }: Holder): boolean {
  return host === hostname() && began === beginningOf(pid) && isRunning(pid);
}

/** Whether a process of this machine has that id. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Field 22 of proc_pid_stat(5); empty of a process that is gone (or dead, and its parent has not noticed) and where there is no /proc. */
function beginningOf(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? '' : fields[19];
  } catch {
    return '';
  }
}
