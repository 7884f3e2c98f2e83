/** The fixtures' page and worker, built as in a user's project that has the package in node_modules. */
import { cpSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as esbuild from 'esbuild';
import * as vite from 'vite';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** Makes a project in `folder`: the fixtures, and the package as npm installs it. */
export function makeProject(folder: string): void {
  const installed = join(folder, 'node_modules/gqa');
  mkdirSync(installed, { recursive: true });
  cpSync(join(root, 'package.json'), join(installed, 'package.json'));
  cpSync(join(root, 'dist'), join(installed, 'dist'), { recursive: true });
  cpSync(join(root, 'test/browser/fixtures'), folder, { recursive: true });
}

/** Each builds a project and gives the folder of the result, with an index.html. */
export const BUNDLERS: Readonly<Record<string, (project: string) => Promise<string>>> = {
  async vite(project) {
    const outDir = join(project, 'out-vite');
    await vite.build({
      root: project,
      base: './',
      logLevel: 'error',
      build: { outDir },
      worker: { format: 'es' },
    });
    return outDir;
  },
  async esbuild(project) {
    const outdir = join(project, 'out-esbuild');
    await esbuild.build({
      entryPoints: [join(project, 'page.js'), join(project, 'worker.js')],
      bundle: true,
      format: 'esm',
      splitting: true,
      outdir,
      logLevel: 'silent',
    });
    cpSync(join(project, 'index.html'), join(outdir, 'index.html'));
    return outdir;
  },
};
