/** One process at a time in a folder. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';

const LOCK = '.lock';

/** Who holds a folder. */
interface Holder {
  readonly host: string;
  readonly pid: number;
  /** When that process began, in ticks since the machine did: its number may be another's by now. Of Linux. */
  readonly began?: string;
}

/** Another process, or another run of this one, works in the folder. */
export class FolderInUseError extends Error {
  override readonly name = 'FolderInUseError';
}

/**
 * Takes the folder for this process. What a process left that is gone, killed or crashed, is taken over; of one on another machine
 * nothing can be asked, and it counts as gone.
 * @returns gives it back
 * @throws FolderInUseError while another holds it
 */
export function lockFolder(folder: string): () => void {
  const path = join(folder, LOCK);
  const own: Holder = { host: hostname(), pid: process.pid, began: beginningOf(process.pid) };
  for (let tries = 0; ; tries++) {
    try {
      writeFileSync(path, `${JSON.stringify(own)}\n`, { flag: 'wx' });
      return () => rmSync(path, { force: true });
    } catch (error) {
      checkFolderIsFree(folder);
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || tries > 0) throw error;
      rmSync(path, { force: true });
    }
  }
}

/** @throws FolderInUseError while another holds it */
export function checkFolderIsFree(folder: string): void {
  const holder = holderOf(folder);
  if (holder === undefined || !isAlive(holder)) return;
  const who = holder.pid === process.pid ? 'this process' : `process ${holder.pid}`;
  throw new FolderInUseError(
    `${folder}: ${who} is training there (its ${LOCK} says so); another --out, or wait for it to end`,
  );
}

function holderOf(folder: string): Holder | undefined {
  try {
    return JSON.parse(readFileSync(join(folder, LOCK), 'utf8')) as Holder;
  } catch {
    return undefined; // none, or one that was killed while it wrote this
  }
}

function isAlive({ host, pid, began }: Holder): boolean {
  if (host !== hostname() || began !== beginningOf(pid)) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Field 22 of proc_pid_stat(5); undefined of a process that is gone (or dead, and its parent has not noticed) and where there is no /proc. */
function beginningOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}
