/** What fits into a tab: WebAssembly's memory holds at most 4 GiB, and a device may have less. */

import { binaryBytes } from '../format.ts';

const GIB = 2 ** 30;

/** What a model needs and what there is, in bytes. */
export interface Room {
  /** The weights as stored. */
  readonly weights: number;
  /** For weights, gradients (a block's and a step's) and both moments of AdamW as f32, beside the opened model. */
  readonly training: number;
  /** For all of it. */
  readonly limit: number;
  /** Whether a second model fits beside the first. */
  readonly canConvert: boolean;
  readonly canTrain: boolean;
}

export function roomFor(weights: number, parameters: number): Room {
  const device = (navigator as { deviceMemory?: number }).deviceMemory ?? 8;
  const limit = Math.min(3.5, device / 2) * GIB; // the rest is for caches and intermediates
  const training = weights + 20 * parameters;
  return { weights, training, limit, canConvert: 2 * weights <= limit, canTrain: training <= limit };
}

/** @throws RangeError with the numbers for a model that the tab cannot hold */
export function checkRoom(name: string, { weights, limit }: Room): void {
  if (weights <= limit) return;
  throw new RangeError(
    `${name}: expected at most ${binaryBytes(limit)} of weights, which a tab can hold on this device, got ${binaryBytes(weights)}. On the command line: npx gqa chat ${name}`,
  );
}
