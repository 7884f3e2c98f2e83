/** The variable `loop`. */
import { equal } from './comparison.ts';
import { fail } from './limits.ts';
import { Fn, Native, Undefined, type Value } from './values.ts';

export interface Loop {
  readonly value: Native;
  moveTo(index: number): void;
}

/** @param recurse renders the loop over other items, for `loop(items)` */
export function makeLoop(items: readonly Value[], depth: number, recurse: (items: Value) => Value): Loop {
  let at = 0;
  let previous: readonly Value[] | undefined;
  const cycle = new Fn('cycle', (args) =>
    args.length === 0 ? fail('no items for cycling given') : args[at % args.length],
  );
  const changed = new Fn('changed', (args) => {
    const same = previous?.length === args.length && previous.every((value, i) => equal(value, args[i]));
    previous = args;
    return !same;
  });
  const attributes: Readonly<Record<string, () => Value>> = {
    index: () => BigInt(at + 1),
    index0: () => BigInt(at),
    revindex: () => BigInt(items.length - at),
    revindex0: () => BigInt(items.length - at - 1),
    first: () => at === 0,
    last: () => at === items.length - 1,
    length: () => BigInt(items.length),
    depth: () => BigInt(depth),
    depth0: () => BigInt(depth - 1),
    previtem: () => (at > 0 ? items[at - 1] : new Undefined('there is no previous item')),
    nextitem: () => (at + 1 < items.length ? items[at + 1] : new Undefined('there is no next item')),
    cycle: () => cycle,
    changed: () => changed,
  };
  const value = new Native(
    'LoopContext',
    attributes,
    ([inner = null]) => recurse(inner),
    () => `<LoopContext ${at + 1}/${items.length}>`,
  );
  return {
    value,
    moveTo(index) {
      at = index;
    },
  };
}
