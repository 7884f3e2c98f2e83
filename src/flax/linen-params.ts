/** Converts Linen's nested parameter trees to the flat paths of modules. */
import { checkObject } from '../arguments/kinds.ts';
import { Tensor } from '../tensor/tensor.ts';

/** `{ q: { kernel } }`, nested as in Linen. */
export interface LinenParams {
  readonly [name: string]: Tensor | LinenParams;
}

/**
 * Flattens a Linen tree: `{ params: { q: { kernel } } }` becomes `{ 'q.kernel': … }`, for `Module.setState`.
 * @param params the tree, with or without the `params` level around it.
 * @returns the tensors by path, not copied.
 * @example layer.setState(fromLinenParams({ params: { query: { kernel: Q }, key: { kernel: K } } }));
 */
export function fromLinenParams(params: LinenParams): Record<string, Tensor> {
  checkObject('fromLinenParams', 'parameters by name', params);
  const inner = params.params;
  const isWrapped = inner !== undefined && !(inner instanceof Tensor) && Object.keys(params).length === 1;
  const flat: Record<string, Tensor> = {};
  const walk = (tree: LinenParams, path: string) => {
    for (const [name, value] of Object.entries(tree)) {
      if (value instanceof Tensor) flat[path + name] = value;
      else walk(value, `${path}${name}.`);
    }
  };
  walk(isWrapped ? inner : params, '');
  return flat;
}
