/** Golden options as constructor arguments, and the tolerance of each dtype. */
import { initializers } from '../../src/nn/index.ts';

/** f16 and bf16: a few units in the last place of the largest number, since sums run in another order. */
export const TOLERANCES: Readonly<Record<string, number>> = { f32: 1e-5, f16: 3e-3, bf16: 2e-2 };

/** `kernelInit: 'heNormal'` becomes the initializer of that name. */
export function constructorOptions(options: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(options).map(([name, value]) => {
      if (!name.endsWith('Init')) return [name, value];
      const make = initializers[value as 'heNormal'];
      return [name, make()];
    }),
  );
}
