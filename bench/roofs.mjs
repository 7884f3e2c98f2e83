/**
 * The machine's roofs, measured by roofs.c again in every round of a row: the peak rate of its units (FMA on
 * f32, bf16 and int8 products) and the bandwidth of reading from memory. The best peak counts; of the
 * bandwidth, which other machines on the same memory lower, the median.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Contender } from './contender.mjs';
import { memoryBytes } from './machine.mjs';
import { median } from './stats.mjs';

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
  /**
   * By name: `fma widest 2`, `fma 128 1`, `bf16 amx 1`, `int8 widest 2` (kind, form, threads) in GFLOP/s,
   * `read 2` in GB/s.
   */
  best = {};
  /** `[kind, form]` of each unit that the processor has. */
  units = [];
  /** Why roofs cannot be measured; undefined when they can. */
  missing;
  /** MiB that the read roof passes over. */
  readMiB = Math.round(memoryBytes() / 2 ** 20);
  #program;
  #reads = {};

  /** Compiles and starts the program. */
  static async start() {
    const roofs = new Roofs();
    try {
      compile();
      roofs.#program = new Contender('roofs', [binary]);
      roofs.units = await roofs.#program.ask('units');
    } catch (error) {
      roofs.missing = error.message;
    }
    return roofs;
  }

  /**
   * Measures a roof. Returns undefined when it cannot be measured, also for a unit that the processor lacks.
   * @param roof `{ kind: 'fma' | 'bf16' | 'int8', form = 'widest', threads }` or `{ kind: 'read', threads }`
   */
  async measure(roof) {
    const { kind, form = 'widest', threads } = roof;
    const name = Roofs.nameOf(roof);
    if (this.missing) return undefined;
    if (kind === 'read') {
      const { gbs } = await this.#program.ask('read', [this.readMiB, threads, 96]);
      this.#reads[name] = [...(this.#reads[name] ?? []), gbs];
      this.best[name] = median(this.#reads[name]);
      return gbs;
    }
    if (!this.units.some((unit) => unit[0] === kind && (form === 'widest' || unit[1] === form)))
      return undefined;
    const { gflops } = await this.#program.ask('peak', [`${kind} ${form}`, threads, 30]);
    if (!(this.best[name] >= gflops)) this.best[name] = gflops;
    return gflops;
  }

  /** The figure of a row's roof: its own (reading), else the best; undefined before it is measured. */
  get(roof) {
    return rateOf(roof, this.best);
  }

  async stop() {
    await this.#program?.stop();
  }

  static nameOf({ kind, form = 'widest', threads }) {
    return kind === 'read' ? `read ${threads}` : `${kind} ${form} ${threads}`;
  }
}

/** The figure of a row's roof, of a row `{ kind, form, threads, rate }` and the best figures by name. */
export function rateOf(roof, best) {
  return roof.rate ?? best[Roofs.nameOf(roof)];
}

/** Measures all roofs `rounds` times: reading and the fastest unit of each kind, and the others on one thread. */
export async function measureRoofs(roofs, threadCounts, rounds) {
  for (let round = 0; round < rounds; round++) {
    for (const threads of threadCounts)
      for (const kind of ['read', 'fma', 'bf16', 'int8']) await roofs.measure({ kind, threads });
    for (const [kind, form] of roofs.units) await roofs.measure({ kind, form, threads: 1 });
  }
}
