/**
 * Node's built-in modules, by `process.getBuiltinModule`: an import of `node:fs` would stop bundlers for
 * browsers, and Node's `require` where it needs a top-level await. Library code looks for Node here only.
 */

/** Whether Node's built-in modules are there: in Node since 20.16, Bun and Deno. */
export const isNode: boolean =
  typeof process !== 'undefined' && typeof process.getBuiltinModule === 'function';

/** Node's built-in modules, each loaded on first use. Its members throw an Error where there are none. */
export const node = {
  get fs(): typeof import('node:fs') {
    return builtin('fs');
  },
  get module(): typeof import('node:module') {
    return builtin('module');
  },
  get os(): typeof import('node:os') {
    return builtin('os');
  },
  get path(): typeof import('node:path') {
    return builtin('path');
  },
  get v8(): typeof import('node:v8') {
    return builtin('v8');
  },
  get worker_threads(): typeof import('node:worker_threads') {
    return builtin('worker_threads');
  },
};

function builtin<Name extends 'fs' | 'module' | 'os' | 'path' | 'v8' | 'worker_threads'>(name: Name) {
  if (!isNode) throw new Error(`gqa: expected Node, Bun or Deno, which have node:${name}, got none of them`);
  return process.getBuiltinModule(`node:${name}`);
}

/** An environment variable, trimmed; undefined when unset, empty, not readable (Deno), or where there are none. */
export function environment(name: string): string | undefined {
  return (isNode && isAllowed({ name: 'env', variable: name }) && process.env[name]?.trim()) || undefined;
}

/** What Deno asks its user for. */
interface Permission {
  readonly name: 'env' | 'ffi' | 'read';
  readonly variable?: string;
}

/** Whether the program may: false in Deno without the permission, which would stop the program and ask. */
export function isAllowed(permission: Permission): boolean {
  const { Deno } = globalThis as {
    Deno?: { permissions: { querySync(permission: Permission): { state: string } } };
  };
  return Deno === undefined || Deno.permissions.querySync(permission).state === 'granted';
}
