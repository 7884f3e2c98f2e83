/**
 * What a release writes beside the files of the clone: the manifest of the main package, and manifest and
 * README of a platform's package. The repository's own package.json names none of these packages, so that
 * `npm ci` does not ask for them.
 */
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { PLATFORMS } from '../tools/prebuilt/platforms.mjs';

/**
 * The manifest as published: without scripts, so that installing runs nothing, and with the platforms'
 * packages, of which npm installs the one that fits.
 */
export function mainManifest({ scripts, devDependencies, ...manifest }, platforms) {
  const names = Object.fromEntries(platforms.map((name) => [`@gqa/${name}`, manifest.version]));
  return { ...manifest, optionalDependencies: names };
}

export function platformManifest(main, name) {
  const { os, cpu, libc } = PLATFORMS[name];
  return {
    name: `@gqa/${name}`,
    version: main.version,
    description: `The native kernels of gqa for ${name}`,
    license: main.license,
    main: 'gqa.node',
    files: ['gqa.node'],
    os: [os],
    cpu: [cpu],
    ...(libc && { libc: [libc] }),
    engines: main.engines,
    // Yarn: a shared library is loaded from a folder, not from an archive.
    preferUnplugged: true,
  };
}

export function platformReadme(main, name) {
  return `# @gqa/${name}

The native kernels of [gqa](https://www.npmjs.com/package/gqa) ${main.version} for ${name}: one Node-API addon. It is an
optional dependency of \`gqa\`, which loads it after comparing its SHA-256. Do not install it by itself.

The sources are in \`kernels/\` of \`gqa\`, and \`tools/prebuilt/build.mjs\` of its repository compiles them.
`;
}

/** `text` is dist/backend/prebuilt.js; `hashes` is platform -> SHA-256. */
export function withHashes(text, hashes) {
  if (text.split('= {};').length !== 2) throw new Error('release: expected one empty table in prebuilt.js');
  return text.replace('= {};', `= ${JSON.stringify(hashes, null, 2)};`);
}

/** Makes the folder of a release, or empties it. @throws Error, before anything is removed, for other files in it */
export function emptyRelease(folder) {
  mkdirSync(folder, { recursive: true });
  const names = readdirSync(folder);
  const other = names.find((name) => !/^gqa-[\w.+-]+\.tgz$/.test(name));
  if (other !== undefined) {
    throw new Error(`release: expected an empty folder or an earlier release, got ${join(folder, other)}`);
  }
  for (const name of names) rmSync(join(folder, name));
}
