/**
 * The shape of a model from whatever describes it: a Hugging Face config.json or a GGUF header.
 * One frozen object; the planner and the models read nothing else about sizes.
 */
import type { ModelShape } from './shape-types.ts';

export { modelShapeFromConfig } from './shape-from-config.ts';
export { modelShapeFromGguf } from './shape-from-gguf.ts';
export type { LayerKind, LayerShape, ModelShape } from './shape-types.ts';

/**
 * Values cached per token over all layers, windows ignored: `sum over layers of K * (Hk + Hv)`, `rank + ropeDim` for a
 * latent layer, the indexer's key added, 0 for linear and shared ones. Times bytes per value it is the cache's growth per token.
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
