/** The machine and the versions of a run, for the results file. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import os from 'node:os';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

function git(...args) {
  try {
    return execFileSync('git', args, {
      cwd: root,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  } catch {
    return '';
  }
}

function read(path) {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return '';
  }
}

/** Bytes of the last-level cache; 32 MiB where the system does not report it. */
export function lastLevelCache() {
  const folder = '/sys/devices/system/cpu/cpu0/cache';
  let largest = 0;
  try {
    for (const index of readdirSync(folder)) {
      const [, size, unit] = /^(\d+)([KM])$/.exec(read(`${folder}/${index}/size`)) ?? [];
      if (size) largest = Math.max(largest, Number(size) * (unit === 'M' ? 2 ** 20 : 2 ** 10));
    }
  } catch {
    // Not Linux.
  }
  return largest || 2 ** 25;
}

/**
 * Bytes to pass over so that they are read from memory and not from a cache: twice the last-level cache and at
 * least 1 GiB (a virtual machine may report less cache than it has), but at most a tenth of memory, because
 * several programs hold that much each.
 */
export function memoryBytes() {
  return Math.min(Math.max(2 * lastLevelCache(), 2 ** 30), os.totalmem() / 10);
}

export function describeMachine() {
  const [cpu] = os.cpus();
  const flags = read('/proc/cpuinfo').match(/^flags\s*:(.*)$/m)?.[1] ?? '';
  const isa = ['avx2', 'fma', 'avx512f', 'avx512_bf16', 'amx_bf16'].filter((flag) =>
    flags.split(' ').includes(flag),
  );
  return {
    cpu: cpu?.model ?? os.arch(),
    processors: os.availableParallelism(),
    isa,
    lastLevelCacheMiB: lastLevelCache() / 2 ** 20,
    memoryGiB: Math.round(os.totalmem() / 2 ** 30),
    system: `${os.type()} ${os.release().match(/^\d+\.\d+/)?.[0] ?? ''} ${os.arch()}`,
    transparentHugePages:
      read('/sys/kernel/mm/transparent_hugepage/enabled').match(/\[(\w+)\]/)?.[1] ?? 'unknown',
    loadBefore: os.loadavg()[0],
  };
}

export function describeVersions() {
  const { version } = JSON.parse(read(`${root}/package.json`));
  const changed = git('status', '--porcelain', '--', 'src', 'kernels', 'bench') !== '';
  const commit = git('rev-parse', '--short=10', 'HEAD') || 'unknown';
  return { gqa: version, commit: changed ? `${commit} with changes` : commit, node: process.versions.node };
}
