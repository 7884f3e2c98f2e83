/** The longest context, or the most sequences, whose cache fits into given memory. */
import { aNumber } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { planKvCache } from './plan-kv-cache.ts';
import { PLAN_KINDS, type PlanOptions } from './runtime-rules.ts';
import { type PlanSource, shapeOf } from './shape-of.ts';

const { contextLength, batchSize, ...REST } = PLAN_KINDS;
const CONTEXT_OPTIONS = optionKinds<Omit<PlanOptions, 'contextLength'>>({ ...REST, batchSize });
const BATCH_OPTIONS = optionKinds<Omit<PlanOptions, 'batchSize'>>({ ...REST, contextLength });

/**
 * The longest context whose cache fits, with `batchSize` sequences.
 * @param memoryBytes of the cache alone
 * @param options as for `planKvCache`, without `contextLength`
 * @throws RangeError when not even one token fits
 * @returns tokens per sequence; it may be longer than the model's own context, and is Infinity when every
 *   layer slides and all windows fit
 * @example maxContext('llama-3-8b', 8 * 2 ** 30, { kvDtype: 'q8_0' });
 */
export function maxContext(
  source: PlanSource,
  memoryBytes: number,
  options: Omit<PlanOptions, 'contextLength'> = {},
): number {
  checkOptions('maxContext', options, CONTEXT_OPTIONS);
  const shape = shapeOf(source);
  const bytesAt = (contextLength: number) => planKvCache(shape, { ...options, contextLength }).totalBytes;
  checkMemory('maxContext', memoryBytes, bytesAt(1));
  const MAX_TOKENS = 2 ** 32;
  let high = 2;
  while (high < MAX_TOKENS && bytesAt(high) <= memoryBytes) high *= 2;
  if (high === MAX_TOKENS && bytesAt(MAX_TOKENS) <= memoryBytes) return Number.POSITIVE_INFINITY;
  let low = high / 2;
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (bytesAt(middle) <= memoryBytes) low = middle;
    else high = middle;
  }
  return low;
}

/**
 * The most sequences of `contextLength` tokens whose caches fit.
 * @param memoryBytes of the caches alone
 * @throws RangeError when not even one token fits
 * @returns 0 when one sequence of that length does not fit
 */
export function maxBatch(
  source: PlanSource,
  memoryBytes: number,
  options: Omit<PlanOptions, 'batchSize'> = {},
): number {
  checkOptions('maxBatch', options, BATCH_OPTIONS);
  const shape = shapeOf(source);
  checkMemory('maxBatch', memoryBytes, planKvCache(shape, { ...options, contextLength: 1 }).totalBytes);
  const { bytesPerSequence } = planKvCache(shape, options);
  return bytesPerSequence === 0 ? Number.POSITIVE_INFINITY : Math.floor(memoryBytes / bytesPerSequence);
}

function checkMemory(name: string, memoryBytes: number, least: number): void {
  aNumber(name, 'memoryBytes', memoryBytes);
  if (!(memoryBytes >= 0)) throw new RangeError(`${name}: expected memory in bytes, got ${memoryBytes}`);
  if (memoryBytes < least) {
    throw new RangeError(`${name}: expected memory for one token, ${least} bytes, got ${memoryBytes}`);
  }
}
