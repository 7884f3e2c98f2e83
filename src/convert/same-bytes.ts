/**
 * Detects pooling that changes no byte: identical heads (of a grouped model written as multi-head) pool to
 * themselves. For block types this avoids quantising again.
 */
import { storageLayout } from '../format/storage-type.ts';
import type { TensorJob } from './convert-tensor.ts';
import type { Block, TensorPlan } from './tensor-plan.ts';

/** @returns a plan that only copies rows and gives the same tensor; undefined when it must be computed */
export async function copyingPlan(job: TensorJob): Promise<TensorPlan | undefined> {
  const { plan, info } = job;
  if (plan === undefined || plan.axis === 1) return undefined;
  const blocks: Block[] = [];
  for (const block of plan.blocks) {
    const [first] = block.sources;
    if (first === undefined || !(await isSameBytes(job, block))) return undefined;
    blocks.push({ size: block.size, sources: [{ first: first.first, weight: 1 }] });
  }
  return info.shape.length > 0 ? { ...plan, blocks } : undefined;
}

/** Whether the sources of a block have the same bytes, so that pooling gives these bytes again. */
async function isSameBytes({ checkpoint, info }: TensorJob, { size, sources }: Block): Promise<boolean> {
  const weight = sources.reduce((sum, source) => sum + source.weight, 0);
  if (Math.abs(weight - 1) > 1e-9 || sources.some(({ matrix }) => matrix !== undefined)) return false;
  if (sources.length > 1 && storageLayout(info.dtype).blockLength === 1) return false;
  const rowBytes = info.byteLength / Math.max(1, info.shape[0]);
  const read = (first: number) => checkpoint.readBytes(info.name, first * rowBytes, size * rowBytes);
  const [first, ...rest] = sources;
  const bytes = rest.length > 0 ? await read(first.first) : undefined;
  for (const other of rest) {
    const same = await read(other.first);
    if (!same.every((byte, i) => byte === bytes?.[i])) return false;
  }
  return true;
}
