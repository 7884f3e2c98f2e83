/** Embedding lookup: rows of a table by id. */

import { record } from '../autograd/tape.ts';
import * as calls from '../backend/calls/copy.ts';
import { UnsupportedError } from '../tensor/errors.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { allocate, checkRank, commonBackend, hasNoOutput } from './operands.ts';

/**
 * `out[…] = table[ids[…]]`.
 * @param table `[V, D]`: f32, f16, bf16 or a block type (f64 on the reference backend).
 * @param ids i32, any shape.
 * @throws RangeError for an id outside 0 … V - 1; TypeError for ids of another dtype.
 * @returns `[…ids.shape, D]` f32 (f64 for an f64 table).
 */
export function embedding(table: Tensor, ids: Tensor): Tensor {
  const backend = commonBackend('embedding', table, ids);
  checkRank('embedding', 'table', table, 2);
  if (ids.dtype !== 'i32') throw new TypeError(`embedding: expected i32 ids, got ${ids.dtype}`);
  if (['i32', 'u32', 'u8', 'bool'].includes(table.dtype)) {
    throw new UnsupportedError('embedding', table.dtype, backend.name);
  }
  const [V, D] = table.shape;
  // An id out of range would read outside the table. On a CPU the check is cheap; a device backend would
  // clamp in its kernel.
  for (const id of ids.dataSync()) {
    if (id < 0 || id >= V) throw new RangeError(`embedding: expected ids from 0 to ${V - 1}, got ${id}`);
  }
  const out = allocate(backend, table.dtype === 'f64' ? 'f64' : 'f32', [...ids.shape, D]);
  backend.run(calls.embedding, { out, table, dim: D, ids, count: ids.size });
  record({
    inputs: [table],
    outputs: [out],
    saved: [ids],
    vjp: ([gradient], [rows]) => {
      const g = gradient as Tensor;
      const dTable = allocate(backend, g.dtype, [V, D]);
      const sizes = { vocabSize: V, dim: D, count: rows.size };
      if (!hasNoOutput(dTable))
        backend.run(calls.embeddingBackward, { dTable, ids: rows, dOut: g, ...sizes });
      return [dTable];
    },
  });
  return out;
}
