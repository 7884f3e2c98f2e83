/**
 * Counts the memory that the garbage collector must free and that a synchronous loop keeps it from freeing:
 * finalizers run between turns of the event loop only. Warns once before such a loop takes all memory.
 */

import { grouped } from '../arguments/inspect.ts';
import { isNode } from '../platform/node.ts';
import { eventLoopTurn } from './event-loop.ts';

/** Bytes in one turn of the event loop at which the warning is printed. */
const LIMIT = 512 * 2 ** 20;
const ADVICE =
  'Put the work of a step into scope(() => …), call dispose() on what you no longer need, or await between steps (await t.data())';

let unfreed = 0;
let isTurnAwaited = false;
let hasWarned = false;

/**
 * @param bytes of a tensor outside of all scopes that was made, or negative: that was freed
 */
export function countUnfreed(bytes: number): void {
  unfreed = Math.max(0, unfreed + bytes);
  if (!isTurnAwaited) {
    isTurnAwaited = true;
    void eventLoopTurn().then(() => {
      isTurnAwaited = false;
      unfreed = 0;
    });
  }
  if (unfreed > LIMIT && !hasWarned) {
    hasWarned = true;
    warn(
      `${grouped(unfreed)} bytes of tensors were made outside of scope() without a turn of the event loop, so none of them could be freed. ${ADVICE}.`,
    );
  }
}

/** What an out-of-memory error adds: advice, when much memory waits for the garbage collector. */
export function unfreedAdvice(): string {
  return unfreed > LIMIT / 8 ? `; ${grouped(unfreed)} bytes wait for the garbage collector. ${ADVICE}` : '';
}

function warn(text: string): void {
  if (isNode) {
    process.emitWarning(text, { type: 'GqaMemoryWarning' });
  } else console.warn(`gqa: ${text}`);
}
