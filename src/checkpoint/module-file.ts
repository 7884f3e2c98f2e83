/**
 * Modules to and from one safetensors file, whose tensors have Flax's names of the parameters
 * (`query.kernel`).
 */
import { describe } from '../arguments/kinds.ts';
import { checkPlace, type PlaceLike } from '../files/place.ts';
import type { Module } from '../nn/module.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { loadTensorAsync } from './load-tensor.ts';
import { openCheckpoint } from './open-checkpoint.ts';
import { writeSafetensors } from './write-safetensors.ts';

/**
 * Writes the parameters of a module as stored, atomically.
 * @param path a `.safetensors` file
 * @example await saveModule('out/layer.safetensors', layer)
 */
export async function saveModule(path: PlaceLike, module: Module): Promise<void> {
  checkArguments('saveModule', path, module);
  await writeSafetensors(path, module.getState(), { metadata: { format: 'flax' } });
}

/**
 * Reads the parameters of a module from a checkpoint, rounded to the parameters' dtypes.
 * @throws RangeError when a parameter or a tensor is without its counterpart, or shapes differ; the module is
 * then unchanged
 */
export async function loadModule(path: PlaceLike, module: Module): Promise<void> {
  checkArguments('loadModule', path, module);
  await using checkpoint = await openCheckpoint(path);
  const state: Record<string, Tensor> = {};
  try {
    const own = module.getState();
    for (const [name, { dtype }] of checkpoint.tensors) {
      const rounded = dtype === 'f64' ? { dtype: own[name]?.dtype ?? 'f32' } : {};
      state[name] = await loadTensorAsync(checkpoint, name, rounded);
    }
    module.setState(state);
  } finally {
    for (const tensor of Object.values(state)) tensor.dispose();
  }
}

/** @throws TypeError, mostly for the two in the wrong order */
function checkArguments(op: string, path: PlaceLike, module: Module): void {
  checkPlace(op, 'a path first', path);
  if (typeof module?.getState !== 'function') {
    throw new TypeError(`${op}: expected a module second, got ${describe(module)}`);
  }
}
