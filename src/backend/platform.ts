/**
 * Node's built-in modules, which Bun and Deno have too; undefined in a browser. They come from
 * `process.getBuiltinModule`, because an import of `node:fs` breaks bundles for browsers and a dynamic one
 * needs a top-level await. Library code takes them only from here and from files/.
 */
const isNode = typeof process !== 'undefined' && typeof process.getBuiltinModule === 'function';

/** Modules by what they are used for; each is loaded when it is first read. */
export interface NodePlatform {
  readonly fs: typeof import('node:fs');
  readonly createRequire: typeof import('node:module').createRequire;
  readonly v8: typeof import('node:v8');
}

export const node: NodePlatform | undefined = isNode
  ? {
      get fs() {
        return process.getBuiltinModule('node:fs');
      },
      get createRequire() {
        return process.getBuiltinModule('node:module').createRequire;
      },
      get v8() {
        return process.getBuiltinModule('node:v8');
      },
    }
  : undefined;

/** An environment variable; undefined when unset, empty, not readable (Deno), or where there are none. */
export function environment(name: string): string | undefined {
  try {
    return (isNode && process.env[name]) || undefined;
  } catch {
    return undefined;
  }
}
