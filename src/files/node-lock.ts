/**
 * One process at a time in a folder. Each process writes a lock file of its own and then looks for others: of
 * two that start together at least one sees the other, and removing the lock of a process that has ended can
 * never remove that of a running one.
 */
import { node } from '../platform/node.ts';
import { FolderInUseError } from './folder.ts';

/**
 * `.lock-HOST-PID-START-UNIQUE`, the host encoded as in a URL. START is when the process started, since
 * process ids are reused. The name holds everything: unlike a file's content, it is never half written.
 */
const NAME = /^\.lock-(.+)-(\d+)-(\d*)-[0-9a-z]+$/;
/** Two processes that start together both remove their locks, and try again after different times. */
const MAX_ATTEMPTS = 5;
const MAX_WAIT_MS = 40;

/**
 * Locks the folder for this process. The locks of processes that have ended are removed. Processes on other
 * machines cannot be checked and count as ended.
 * @throws FolderInUseError while another process has locked it
 * @returns a function that unlocks it
 */
export function lockFolder(folder: string): () => void {
  const unique = Math.random().toString(36).slice(2);
  const own = `.lock-${encodeURIComponent(node.os.hostname())}-${process.pid}-${startOf(process.pid)}-${unique}`;
  const unlock = () => node.fs.rmSync(node.path.join(folder, own), { force: true });
  for (let attempt = 1; ; attempt++) {
    node.fs.writeFileSync(node.path.join(folder, own), '', { flag: 'wx' });
    const other = otherLock(folder, own);
    if (other === undefined) return unlock;
    unlock();
    if (attempt === MAX_ATTEMPTS) {
      const who = other.pid === process.pid ? 'this process' : `process ${other.pid}`;
      throw new FolderInUseError(
        `${folder}: ${who} is training there (its lock file is ${other.name}); choose another folder, or wait for it to end`,
      );
    }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Math.random() * MAX_WAIT_MS);
  }
}

/** The lock of another running process. Those of ended processes are removed. */
function otherLock(folder: string, own: string): { readonly name: string; readonly pid: number } | undefined {
  for (const name of node.fs.readdirSync(folder)) {
    const [, host, id, start] = NAME.exec(name) ?? [];
    if (host === undefined || name === own) continue;
    const pid = Number(id);
    const isHere = decodeURIComponent(host) === node.os.hostname();
    if (isHere && start === startOf(pid) && isRunning(pid)) return { name, pid };
    node.fs.rmSync(node.path.join(folder, name), { force: true });
  }
  return undefined;
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

/**
 * When a process started, in clock ticks since boot: field 22 of proc_pid_stat(5). Empty for one that has
 * ended (zombies included), and on systems without /proc.
 */
function startOf(pid: number): string {
  try {
    const stat = node.fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? '' : fields[19];
  } catch {
    return '';
  }
}
