/** How objects of this package print themselves in Node's console. */

/**
 * Makes `console.log` in Node print the objects of a class as `toString` does. `util.inspect` calls the method
 * under this registered symbol, so `node:util` is not imported.
 */
export function printAsText({ prototype }: { readonly prototype: { toString(): string } }): void {
  Object.defineProperty(prototype, Symbol.for('nodejs.util.inspect.custom'), {
    value(this: { toString(): string }) {
      return this.toString();
    },
  });
}

/** `1,234` */
export function grouped(count: number): string {
  return count.toLocaleString('en-US');
}
