/**
 * `linear` beside PyTorch's: 512 rows against the peak of the units, and one row against the read bandwidth.
 * In a bf16 row the weight is bf16, and PyTorch's x too.
 */
import { measureLinear } from './rows.mjs';

export async function linear(options) {
  const { threads, rotateBytes } = options;
  const square = { In: 2048, Out: 2048 };
  const work = { section: 'linear', threads };
  const rows = { ...square, rows: 512 };
  await measureLinear(
    {
      ...{ ...work, name: 'linear 512 x 2048 x 2048 f32', roof: 'fma' },
      ...{ shape: { ...rows, dtype: 'f32' }, contenders: ['native', 'torch'] },
    },
    options,
  );
  await measureLinear(
    {
      ...{ ...work, name: 'linear 512 x 2048 x 2048 bf16', roof: 'bf16' },
      ...{ shape: { ...rows, dtype: 'bf16' }, contenders: ['native bfloat16', 'native', 'torch'] },
    },
    options,
  );
  for (const dtype of ['f32', 'bf16']) {
    const shape = { ...square, rows: 1, dtype, rotateBytes };
    await measureLinear(
      {
        ...work,
        name: `linear 1 x 2048 x 2048 ${dtype}`,
        shape,
        contenders: ['native', 'torch'],
        roof: 'read',
      },
      options,
    );
  }
}
