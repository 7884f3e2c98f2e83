/**
 * The shape of a model, one frozen object, from a Hugging Face config.json or a GGUF header. The planner and
 * the models take all sizes from it.
 */
import type { ModelShape } from './shape-types.ts';

export { modelShapeFromConfig } from './shape-from-config.ts';
export { modelShapeFromGguf } from './shape-from-gguf.ts';
export type { LayerKind, LayerShape, ModelShape } from './shape-types.ts';

/**
 * Values cached per token over all layers, windows ignored: the sum of `K * (Hk + Hv)`, of `rank + ropeDim`
 * for latent layers, 0 for linear and shared layers, and the keys of indexers. Times bytes per value it is
 * the cache's growth per token.
 * @returns values (not bytes) per token and sequence
 */
export function kvElementsPerToken(shape: ModelShape): number {
  let elements = 0;
  for (const layer of shape.layers) {
    if (layer.kind === 'linear' || layer.kind === 'shared') continue;
    if (layer.latent !== undefined) elements += layer.latent.rank + layer.latent.ropeDim;
    else elements += layer.numKeyValueHeads * (layer.keyHeadDim + layer.valueHeadDim);
    elements += layer.indexKeyDim ?? 0;
  }
  return elements;
}
