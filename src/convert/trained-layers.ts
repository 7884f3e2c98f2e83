/**
 * The layers that a distillation has trained, kept in a folder beside its output until that is written, so that
 * an interrupted one can be resumed: `settings.json` with what they depend on, and for each layer a file with
 * its matrices.
 */
import { loadTensorAsync } from '../checkpoint/load-tensor.ts';
import { openCheckpoint } from '../checkpoint/open-checkpoint.ts';
import { writeSafetensors } from '../checkpoint/write-safetensors.ts';
import { type Folder, type Place, readSmallJson } from '../files/folder.ts';
import { differenceText, RunConflictError, type RunIdentity } from '../train/run-identity.ts';
import type { LayerWeights } from './head-mix.ts';

const SETTINGS = 'settings.json';
/** The matrices of a layer. */
const NAMES = ['query', 'key', 'value', 'output'] as const;

/** The folder of the layers of an output: its name with `.distill`. It need not exist. */
export function trainedLayersFolder({ folder, file }: Required<Place>): Folder {
  return folder.folder(`${file}.distill`);
}

/** Free it with `await using`: a folder without a layer is then removed. */
export class TrainedLayers {
  readonly #to: Required<Place>;
  readonly #folder: Folder;
  readonly #unlock: () => void;
  readonly #indices = new Set<number>();

  private constructor(to: Required<Place>, unlock: () => void) {
    this.#to = to;
    this.#folder = trainedLayersFolder(to);
    this.#unlock = unlock;
  }

  /**
   * @param to the output
   * @throws RunConflictError for layers of other settings, or for any unless `resume` is set; FolderInUseError
   * while another process trains them
   */
  static async open(to: Required<Place>, identity: RunIdentity, resume: boolean): Promise<TrainedLayers> {
    const folder = trainedLayersFolder(to);
    const found = (await folder.list()).some(({ name }) => !name.startsWith('.'));
    if (found && !resume) {
      throw new RunConflictError(
        `${folder.name}: expected no layers of an earlier distillation, got some; { resume: true } continues it; delete the folder to start again`,
      );
    }
    const before = (await readSmallJson(folder, SETTINGS)) as RunIdentity | undefined;
    if (found && (typeof before !== 'object' || before === null)) {
      throw new RunConflictError(
        `${folder.name}: expected layers and their ${SETTINGS}, got others or no ${SETTINGS}`,
      );
    }
    const difference = before && differenceText(before, identity);
    if (difference !== undefined) {
      throw new RunConflictError(
        `{ resume: true }: expected the distillation of ${folder.name}, ${difference}; delete the folder to start again`,
      );
    }
    await folder.create();
    const layers = new TrainedLayers(to, await folder.lock());
    if (!found) await folder.write(SETTINGS, `${JSON.stringify(identity, null, 2)}\n`);
    for (const { name } of await folder.list()) {
      const index = /^layer-(\d+)\.safetensors$/.exec(name)?.[1];
      if (index !== undefined) layers.#indices.add(Number(index));
    }
    return layers;
  }

  has(index: number): boolean {
    return this.#indices.has(index);
  }

  /** @throws Error for a damaged file */
  async read(index: number): Promise<LayerWeights> {
    const advice = 'delete the file, and the layer is trained again';
    await using file = await openCheckpoint({ folder: this.#folder, file: nameOf(index) }).catch((cause) => {
      throw new Error(`${(cause as Error).message}; ${advice}`, { cause });
    });
    const weights: Partial<Record<(typeof NAMES)[number], Float32Array>> = {};
    for (const name of NAMES) {
      const tensor = await loadTensorAsync(file, name, { dtype: 'f32' });
      const values = Float32Array.from(tensor.dataSync() as Float32Array);
      tensor.dispose();
      if (!values.every(Number.isFinite)) {
        throw new Error(`${file.path}: expected finite numbers in "${name}", got others; ${advice}`);
      }
      weights[name] = values;
    }
    return weights as LayerWeights;
  }

  /** @param hiddenSize D */
  async write(index: number, weights: LayerWeights, hiddenSize: number): Promise<void> {
    const tensors = NAMES.map((name) => {
      const data = weights[name];
      return [name, { dtype: 'f32', shape: [data.length / hiddenSize, hiddenSize], data }] as const;
    });
    await writeSafetensors({ folder: this.#folder, file: nameOf(index) }, Object.fromEntries(tensors));
    this.#indices.add(index);
  }

  /** Removes all of them: the output is written. */
  async remove(): Promise<void> {
    await this.#to.folder.remove(`${this.#to.file}.distill`);
    this.#indices.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#unlock();
    if (this.#indices.size === 0) await this.remove();
  }
}

function nameOf(index: number): string {
  return `layer-${index}.safetensors`;
}
