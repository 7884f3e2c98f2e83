/**
 * The prebuilt kernels of this version: platform -> SHA-256 of gqa.node in the package `@gqa/<platform>`.
 * A package without an entry is not loaded. In a clone the table is empty; scripts/release.mjs fills it in
 * the published package.
 */
export const PREBUILT: Readonly<Record<string, string>> = {};
