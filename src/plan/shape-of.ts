/** What is planned: a shape, a config or a preset, as a checked shape. */
import { checkInteger, describe } from '../arguments/kinds.ts';
import { modelShapeFromConfig } from '../format/shape-from-config.ts';
import type { ModelShape } from '../format/shape-types.ts';
import { preset } from './presets.ts';

/** A shape, a parsed config.json, or the id of a preset. */
export type PlanSource = ModelShape | Readonly<Record<string, unknown>> | string;

/** @throws as `planKvCache` */
export function shapeOf(source: PlanSource): ModelShape {
  if (typeof source === 'string') return preset(source).shape;
  if (typeof source !== 'object' || source === null) {
    throw new TypeError(
      `planKvCache: expected a shape, a config or the id of a preset, got ${describe(source)}`,
    );
  }
  if (Array.isArray(source.layers)) return checkedShape(source as unknown as ModelShape);
  return modelShapeFromConfig(source, 'config');
}

/** A program may have made the shape. */
function checkedShape(shape: ModelShape): ModelShape {
  const check = (name: string, value: number, least: 0 | 1) =>
    checkInteger('planKvCache', `the shape's ${name}`, value, least);
  for (const name of ['numLayers', 'numHeads', 'hiddenSize'] as const) check(name, shape[name], 1);
  for (const name of ['intermediateSize', 'vocabSize', 'maxPositionEmbeddings'] as const) {
    if (shape[name] !== undefined) check(name, shape[name], 1);
  }
  shape.layers.forEach((layer, i) => {
    for (const name of ['numKeyValueHeads', 'keyHeadDim', 'valueHeadDim'] as const) {
      check(`layers[${i}].${name}`, layer[name], layer.kind === 'linear' ? 0 : 1);
    }
  });
  return shape;
}
