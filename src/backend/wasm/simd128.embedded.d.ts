/** simd128.wasm, gzip in base64, for bundles that do not carry the file. scripts/build.mjs writes it into dist/. */
declare const base64: string;
export default base64;
