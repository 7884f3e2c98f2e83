/**
 * The bundlers of the tests, with no options but where to read and write. esbuild and Vite are dependencies of
 * the tests; `npm ci --prefix tools/bundles` installs webpack and Rollup.
 */
import { createRequire } from 'node:module';
import { join } from 'node:path';
import * as esbuild from 'esbuild';
import * as vite from 'vite';

/** Bundles the module at `entry` into `folder`, as main.js. @returns the warnings */
export type Bundle = (entry: string, folder: string) => Promise<string[]>;

const require = createRequire(new URL('../../tools/bundles/package.json', import.meta.url));

/** Bundler -> how it is called; undefined for one that is not installed. */
export const BUNDLERS: Readonly<Record<string, Bundle | undefined>> = {
  'esbuild into one file': (entry, folder) =>
    runEsbuild({ entryPoints: { main: entry }, outdir: folder, format: 'esm' }),
  'esbuild with splitting': (entry, folder) =>
    runEsbuild({ entryPoints: { main: entry }, outdir: folder, format: 'esm', splitting: true }),
  vite: runVite,
  webpack: isInstalled('webpack') ? runWebpack : undefined,
  rollup: isInstalled('rollup') ? runRollup : undefined,
};

function isInstalled(name: string): boolean {
  try {
    return require.resolve(name) !== '';
  } catch {
    return false;
  }
}

/** esbuild bundles for browsers unless `options` name another platform. */
export async function runEsbuild(options: esbuild.BuildOptions): Promise<string[]> {
  const { warnings } = await esbuild.build({ bundle: true, minify: true, logLevel: 'silent', ...options });
  return warnings.map((warning) => warning.text);
}

async function runVite(entry: string, folder: string): Promise<string[]> {
  const warnings: string[] = [];
  const customLogger = vite.createLogger('silent');
  customLogger.warn = (text) => warnings.push(text);
  customLogger.warnOnce = (text) => warnings.push(text);
  await vite.build({
    configFile: false,
    root: join(entry, '..'),
    base: './',
    customLogger,
    build: {
      outDir: folder,
      emptyOutDir: false,
      reportCompressedSize: false,
      // Its advice about files over 500 kB.
      chunkSizeWarningLimit: Number.POSITIVE_INFINITY,
      // Vite starts from a page; a test has a module only.
      rollupOptions: { input: entry, output: { entryFileNames: 'main.js' } },
    },
  });
  return warnings;
}

interface WebpackStats {
  toJson(options: object): { errors: { message: string }[]; warnings: { message: string }[] };
}

async function runWebpack(entry: string, path: string): Promise<string[]> {
  const webpack = require('webpack') as (
    options: object,
    done: (error: Error | null, stats: WebpackStats) => void,
  ) => void;
  const options = {
    mode: 'production',
    context: join(entry, '..'),
    entry,
    output: { path, filename: 'main.js' },
    // Its advice about files over 244 kB.
    performance: { hints: false },
  };
  const stats = await new Promise<WebpackStats>((resolve, reject) => {
    webpack(options, (error, done) => (error ? reject(error) : resolve(done)));
  });
  const { errors, warnings } = stats.toJson({ all: false, errors: true, warnings: true });
  if (errors.length > 0) throw new Error(errors.map(({ message }) => message).join('\n'));
  return warnings.map(({ message }) => message);
}

async function runRollup(input: string, dir: string): Promise<string[]> {
  const { rollup } = require('rollup') as {
    rollup(options: object): Promise<{ write(options: object): Promise<void> }>;
  };
  // It finds packages only with this plugin.
  const { nodeResolve } = require('@rollup/plugin-node-resolve') as { nodeResolve(options: object): object };
  const warnings: string[] = [];
  const bundle = await rollup({
    input,
    plugins: [nodeResolve({ browser: true })],
    // TypeScript's helpers for `await using` name a `this` that they do not need.
    onwarn: ({ code, message }: { code?: string; message: string }) =>
      code === 'THIS_IS_UNDEFINED' || warnings.push(message),
  });
  await bundle.write({ dir, entryFileNames: 'main.js' });
  return warnings;
}
