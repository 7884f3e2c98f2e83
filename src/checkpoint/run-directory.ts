/**
 * The folder of a training run: checkpoints `step-N/`, each complete or absent, and the file `latest` with
 * the name of the newest one, written once that is complete. After a crash it names a complete checkpoint, or
 * is absent.
 */
import { show } from '../arguments/kinds.ts';
import { type Folder, readSmallText } from '../files/folder.ts';
import { FormatError } from '../format/format-error.ts';
import { parseJson } from '../format/parse-json.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { writeSafetensors } from './write-safetensors.ts';

const POINTER = 'latest';
const STATE = 'trainer.json';
export const OPTIMIZER = 'optimizer.safetensors';

/** Contents of a run's checkpoint. */
export interface RunCheckpoint {
  readonly step: number;
  /** Writes the model into the folder, in its own format. */
  readonly writeModel: (folder: Folder) => Promise<unknown>;
  readonly optimizer: Readonly<Record<string, Tensor>>;
  /** Everything else that is needed to resume. */
  readonly state: Readonly<Record<string, unknown>>;
}

/** `trainer.json` of a checkpoint. */
export type RunState = Readonly<Record<string, unknown>> & { readonly step: number };

export class RunDirectory {
  readonly folder: Folder;

  constructor(folder: Folder) {
    this.folder = folder;
  }

  /** Names of the entries, without temporary files. */
  async entries(): Promise<string[]> {
    const entries = await this.folder.list();
    return entries.map(({ name }) => name).filter((name) => !name.startsWith('.'));
  }

  /**
   * The folder of the newest checkpoint; undefined when there is none.
   * @throws FormatError when `latest` names another
   */
  async latest(): Promise<Folder | undefined> {
    const name = (await readSmallText(this.folder, POINTER))?.trim();
    if (name === undefined) return undefined;
    const folder = this.folder.folder(name);
    if (!/^step-\d+$/.test(name) || !(await folder.list()).some((entry) => entry.name === STATE)) {
      throw new FormatError(
        this.folder.nameOf(POINTER),
        0,
        `expected the name of a checkpoint beside it, got ${JSON.stringify(name)}`,
      );
    }
    return folder;
  }

  /** Writes a checkpoint and its name to `latest`, and removes all but the newest `keep` checkpoints. */
  async save(checkpoint: RunCheckpoint, keep: number): Promise<void> {
    await this.#removeUnfinished();
    const name = `step-${checkpoint.step}`;
    await this.folder.replace(
      name,
      async (folder) => {
        await checkpoint.writeModel(folder);
        await folder.write(STATE, `${JSON.stringify(checkpoint.state, null, 2)}\n`);
        await writeSafetensors({ folder, file: OPTIMIZER }, checkpoint.optimizer);
      },
      { overwrite: true },
    );
    await this.folder.write(POINTER, `${name}\n`);
    const old = (await this.entries())
      .filter((entry) => /^step-\d+$/.test(entry) && entry !== name)
      .sort((a, b) => Number(b.slice(5)) - Number(a.slice(5)));
    for (const entry of old.slice(Math.max(0, keep - 1))) await this.folder.remove(entry);
  }

  /** The state of a checkpoint. @throws FormatError unless it is an object whose step is the folder's */
  async state(checkpoint: Folder): Promise<RunState> {
    const file = checkpoint.nameOf(STATE);
    const text = (await readSmallText(checkpoint, STATE)) ?? '';
    const state = parseJson(file, text) as RunState | null;
    const expected = Number(/step-(\d+)$/.exec(checkpoint.name)?.[1]);
    if (typeof state !== 'object' || state === null || state.step !== expected) {
      throw new FormatError(
        file,
        undefined,
        `expected an object with step ${expected}, got ${show(state?.step)}`,
      );
    }
    return state;
  }

  /** The lines of a `.jsonl` file up to the first one that does not parse, such as one cut off by a crash. */
  async readLines(name: string): Promise<Record<string, unknown>[]> {
    const text = await readSmallText(this.folder, name, Number.POSITIVE_INFINITY);
    const parsed: Record<string, unknown>[] = [];
    for (const line of (text ?? '').split('\n').filter(Boolean)) {
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
    await this.folder.append(name, `${JSON.stringify(value)}\n`);
  }

  async #removeUnfinished(): Promise<void> {
    for (const { name } of await this.folder.list()) {
      if (/^\.(step-\d+|latest|metrics\.jsonl|report\.html)\..*\.(tmp|old)$/.test(name)) {
        await this.folder.remove(name);
      }
    }
  }
}
