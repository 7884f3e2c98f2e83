/**
 * The folder of a training run: `step-N/` checkpoints, each whole or not there, and `latest`, a pointer file that is renamed
 * into place once the checkpoint it names is complete. A crash at any moment leaves a pointer to a whole checkpoint, or none.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { appendFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { show } from '../arguments/kinds.ts';
import { FormatError } from '../format/format-error.ts';
import { parseJson } from '../format/parse-json.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { lockFolder } from './lock-folder.ts';
import { writeContentAtomically, writeFolderAtomically } from './write-atomically.ts';
import { writeSafetensors } from './write-safetensors.ts';

const POINTER = 'latest';
const STATE = 'trainer.json';

/** What a checkpoint of a run holds. */
export interface RunCheckpoint {
  readonly step: number;
  /** Writes the model, in a form of its own, into the folder. */
  readonly writeModel: (folder: string) => Promise<void>;
  readonly optimizer: Readonly<Record<string, Tensor>>;
  /** Everything else that a run needs to go on. */
  readonly state: Readonly<Record<string, unknown>>;
}

export class RunDirectory {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /** Makes the folder, its parents too. */
  create(): void {
    mkdirSync(this.path, { recursive: true });
  }

  /** Keeps other processes out until what it returns is called. @throws FolderInUseError while one is in there */
  lock(): () => void {
    return lockFolder(this.path);
  }

  /** Names of what is in there, without what a killed run left unfinished. */
  entries(): string[] {
    return existsSync(this.path) ? readdirSync(this.path).filter((name) => !name.startsWith('.')) : [];
  }

  /** The folder of the newest complete checkpoint; undefined when there is none. @throws FormatError for a pointer to nothing. */
  latest(): string | undefined {
    const pointer = join(this.path, POINTER);
    if (!existsSync(pointer)) return undefined;
    const name = readFileSync(pointer, 'utf8').trim();
    const folder = join(this.path, name);
    if (!/^step-\d+$/.test(name) || !existsSync(join(folder, STATE))) {
      throw new FormatError(
        pointer,
        0,
        `expected the name of a checkpoint beside it, got ${JSON.stringify(name)}`,
      );
    }
    return folder;
  }

  /** Writes a checkpoint, points to it, and removes all but the newest `keep` of them. */
  async save(checkpoint: RunCheckpoint, keep: number): Promise<string> {
    this.#removeUnfinished();
    const name = `step-${checkpoint.step}`;
    const folder = join(this.path, name);
    await writeFolderAtomically(
      folder,
      async (temporary) => {
        await checkpoint.writeModel(temporary);
        await writeContentAtomically(
          join(temporary, STATE),
          `${JSON.stringify(checkpoint.state, null, 2)}\n`,
        );
        await writeSafetensors(join(temporary, 'optimizer.safetensors'), checkpoint.optimizer);
      },
      { replace: true },
    );
    await writeContentAtomically(join(this.path, POINTER), `${name}\n`);
    const old = this.entries()
      .filter((entry) => /^step-\d+$/.test(entry) && entry !== name)
      .sort((a, b) => Number(b.slice(5)) - Number(a.slice(5)));
    for (const entry of old.slice(Math.max(0, keep - 1))) {
      rmSync(join(this.path, entry), { recursive: true, force: true });
    }
    return folder;
  }

  /** The state of a checkpoint. @throws FormatError unless it is an object whose step is the folder's */
  state(folder: string): Record<string, unknown> & { readonly step: number } {
    const file = join(folder, STATE);
    const state = parseJson(file, readFileSync(file)) as Record<string, unknown> | null;
    const expected = Number(/step-(\d+)$/.exec(folder)?.[1]);
    if (typeof state !== 'object' || state === null || state.step !== expected) {
      throw new FormatError(
        file,
        undefined,
        `expected an object with step ${expected}, got ${show(state?.step)}`,
      );
    }
    return state as Record<string, unknown> & { readonly step: number };
  }

  /** Lines of a `.jsonl` file that parse; a last one cut off by a crash does not. */
  readLines(name: string): Record<string, unknown>[] {
    const path = join(this.path, name);
    if (!existsSync(path)) return [];
    const lines = readFileSync(path, 'utf8').split('\n').filter(Boolean);
    const parsed: Record<string, unknown>[] = [];
    for (const line of lines) {
      try {
        parsed.push(JSON.parse(line));
      } catch {
        break;
      }
    }
    return parsed;
  }

  /** Adds a line to a `.jsonl` file. */
  async appendLine(name: string, value: object): Promise<void> {
    await appendFile(join(this.path, name), `${JSON.stringify(value)}\n`);
  }

  /** Replaces a file as a whole. */
  async replace(name: string, text: string): Promise<void> {
    await writeContentAtomically(join(this.path, name), text);
  }

  /** Writes a file in place, for what may be lost. */
  async write(name: string, text: string): Promise<void> {
    await writeFile(join(this.path, name), text);
  }

  #removeUnfinished(): void {
    for (const name of readdirSync(this.path)) {
      if (/^\.(step-\d+|latest|metrics\.jsonl)\..*\.(tmp|old)$/.test(name)) {
        rmSync(join(this.path, name), { recursive: true, force: true });
      }
    }
  }
}
