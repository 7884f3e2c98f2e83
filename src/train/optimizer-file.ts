/**
 * The state of an optimiser to and from one safetensors file: its tensors by name, and its step counts as JSON
 * under `counters` in `__metadata__`.
 */
import { describe, show } from '../arguments/kinds.ts';
import { convert } from '../backend/calls/copy.ts';
import { backendOf } from '../backend/registry.ts';
import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import { loadTensorAsync } from '../checkpoint/load-tensor.ts';
import { openSource } from '../checkpoint/open-checkpoint.ts';
import { writeSafetensors } from '../checkpoint/write-safetensors.ts';
import { checkPlace, type PlaceLike } from '../files/place.ts';
import { FormatError } from '../format/format-error.ts';
import { parseJson } from '../format/parse-json.ts';
import { sameShape, shapeText } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { Optimizer } from './optimizer.ts';

/**
 * Writes the state of an optimiser (moments, sums, step counts), atomically. With the model saved at the same
 * step, training goes on with the same bits.
 * @param path a `.safetensors` file, outside of the folder of `saveModel`
 * @throws TypeError for other arguments
 * @example
 * await saveModel('run/model', model);
 * await saveOptimizer('run/optimizer.safetensors', optimizer);
 */
export async function saveOptimizer(path: PlaceLike, optimizer: Optimizer): Promise<void> {
  checkArguments('saveOptimizer', path, optimizer);
  const { tensors, counters } = optimizer;
  await writeSafetensors(path, tensors, { metadata: { format: 'pt', counters: JSON.stringify(counters) } });
}

/**
 * Reads the state that `saveOptimizer` wrote into an optimiser made by the same transformation for a model of
 * the same parameters. The learning rate and other settings stay the optimiser's own; a schedule continues at
 * the saved step.
 * @throws FormatError when the file is damaged, or a tensor or count is missing, unknown or of another shape;
 * the optimiser is then unchanged. TypeError for other arguments
 * @example
 * const model = await loadTrainableModel('run/model');
 * const optimizer = new Optimizer(model, adamw({ learningRate: 1e-3 }));
 * await loadOptimizer('run/optimizer.safetensors', optimizer);
 */
export async function loadOptimizer(path: PlaceLike, optimizer: Optimizer): Promise<void> {
  checkArguments('loadOptimizer', path, optimizer);
  await using checkpoint = await openSource('loadOptimizer', path);
  const { metadata } = checkpoint;
  const name = `${checkpoint.path}: counters`;
  const counters = metadata.counters === undefined ? undefined : parseJson(name, metadata.counters);
  await restoreOptimizer(checkpoint, optimizer, counters, checkpoint.path);
}

/**
 * Copies a stored state into an optimiser, once all of it is found to fit.
 * @param counters as parsed
 * @param file the name of their file in errors
 * @throws FormatError naming what does not fit
 */
export async function restoreOptimizer(
  checkpoint: Checkpoint,
  optimizer: Optimizer,
  counters: unknown,
  file: string,
): Promise<void> {
  const found = checkedCounters(optimizer, counters, file);
  const own = Object.entries(optimizer.tensors);
  const { tensors, path } = checkpoint;
  const fail = (detail: string) => new FormatError(path, undefined, detail);
  const unknown = [...tensors.keys()].find((name) => !Object.hasOwn(optimizer.tensors, name));
  if (unknown !== undefined)
    throw fail(`expected the ${own.length} tensors of this optimiser, got ${unknown}`);
  for (const [name, tensor] of own) {
    const shape = tensors.get(name)?.shape;
    if (shape && sameShape(shape, tensor.shape)) continue;
    throw fail(
      `${name}: expected shape ${shapeText(tensor.shape)}, got ${shape ? shapeText(shape) : 'no such tensor'}`,
    );
  }
  const loaded: Tensor[] = [];
  try {
    for (const [name, tensor] of own) {
      loaded.push(await loadTensorAsync(checkpoint, name, { backend: backendOf(tensor), dtype: 'f32' }));
    }
    own.forEach(([, tensor], i) => {
      backendOf(tensor).run(convert, { out: tensor, x: loaded[i], count: tensor.size });
    });
  } finally {
    for (const tensor of loaded) tensor.dispose();
  }
  optimizer.counters = found;
}

function checkedCounters(optimizer: Optimizer, counters: unknown, file: string): Record<string, number> {
  const stored = new Map(Object.entries(Object(counters)));
  return Object.fromEntries(
    Object.keys(optimizer.counters).map((name) => {
      const value = stored.get(name);
      if (Number.isSafeInteger(value) && Number(value) >= 0) return [name, Number(value)];
      const detail = `counters.${name}: expected an integer of at least 0, got ${show(value)}`;
      throw new FormatError(file, undefined, detail);
    }),
  );
}

/** @throws TypeError, mostly for the two in the wrong order */
function checkArguments(op: string, path: PlaceLike, optimizer: Optimizer): void {
  checkPlace(op, 'a path first', path);
  if (typeof optimizer?.tensors !== 'object' || typeof optimizer.counters !== 'object') {
    throw new TypeError(`${op}: expected an optimiser second, got ${describe(optimizer)}`);
  }
}
