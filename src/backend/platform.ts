/** Node's built-in modules, undefined in a browser. Library code imports them only from here. */
const isNode = typeof process !== 'undefined' && typeof process.versions?.node === 'string';

export interface NodePlatform {
  readonly fs: typeof import('node:fs');
  readonly createRequire: typeof import('node:module').createRequire;
  readonly v8: typeof import('node:v8');
}

export const node: NodePlatform | undefined = isNode
  ? {
      fs: (await import('node:fs')).default,
      createRequire: (await import('node:module')).createRequire,
      v8: (await import('node:v8')).default,
    }
  : undefined;

/** An environment variable; undefined when unset, empty, or where there is no environment. */
export function environment(name: string): string | undefined {
  return (isNode && process.env[name]) || undefined;
}
