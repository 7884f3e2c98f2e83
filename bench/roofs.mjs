/**
 * The machine's roofs (peak FMA rate, peak read bandwidth), measured by roofs.c again in every round of a
 * row; the best figure counts.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Contender } from './contender.mjs';

const source = fileURLToPath(new URL('roofs.c', import.meta.url));
const folder = fileURLToPath(new URL('../build/', import.meta.url));
const binary = `${folder}bench-roofs`;

/** Compiles roofs.c. @throws Error with the reason when there is no compiler. */
function compile() {
  const candidates = [process.env.CC, 'cc', 'gcc', 'clang'].filter(Boolean);
  const compiler = candidates.find((command) => spawnSync(command, ['--version']).status === 0);
  if (!compiler) throw new Error(`no C compiler (tried ${candidates.join(', ')})`);
  mkdirSync(folder, { recursive: true });
  const flags = ['-std=gnu11', '-O3', source, '-o', binary, '-lpthread'];
  const { status, stderr } = spawnSync(compiler, flags, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${compiler} failed: ${stderr.split('\n')[0]}`);
}

export class Roofs {
  /** The best figures by name: `fma widest 2` or `fma 128 1` (bits, threads) in GFLOP/s, `read 2` in GB/s. */
  best = {};
  /** Why roofs cannot be measured; undefined when they can. */
  missing;
  #program;
  #mebibytes;

  /** @param rotateBytes the size of the buffer for the read roof, as for the decode rows */
  constructor(rotateBytes) {
    this.#mebibytes = Math.round(rotateBytes / 2 ** 20);
    try {
      compile();
      this.#program = new Contender('roofs', [binary]);
    } catch (error) {
      this.missing = error.message;
    }
  }

  /**
   * Measures a roof and keeps the best figure. Returns undefined when roofs cannot be measured.
   * @param roof `{ kind: 'fma', bits, threads }` or `{ kind: 'read', threads }`
   */
  async measure(roof) {
    if (!this.#program) return undefined;
    const { kind, bits = 0, threads } = roof;
    const answer =
      kind === 'fma'
        ? await this.#program.ask('fma', [bits, threads, 30])
        : await this.#program.ask('read', [this.#mebibytes, threads, 100]);
    const value = answer.gflops ?? answer.gbs;
    const name = Roofs.nameOf(roof);
    if (!(this.best[name] >= value)) this.best[name] = value;
    return value;
  }

  /** The best figure of a roof; undefined before it is measured. */
  get(roof) {
    return this.best[Roofs.nameOf(roof)];
  }

  async stop() {
    await this.#program?.stop();
  }

  static nameOf({ kind, bits = 0, threads }) {
    return kind === 'fma' ? `fma ${bits || 'widest'} ${threads}` : `read ${threads}`;
  }
}

/** Measures all roofs `rounds` times. */
export async function measureRoofs(roofs, threadCounts, rounds) {
  for (let round = 0; round < rounds; round++) {
    for (const threads of threadCounts) {
      await roofs.measure({ kind: 'fma', threads });
      await roofs.measure({ kind: 'read', threads });
    }
    await roofs.measure({ kind: 'fma', bits: 128, threads: 1 });
  }
}
