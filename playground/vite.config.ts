// The site: `npm run build:playground` in the repository writes it to dist/playground.
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));

/** Only the site itself: no other origin, no inline script. Threads of WebAssembly are workers of a blob. */
const POLICY =
  "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'";

// Threads need shared memory, which a page has only with these headers.
const headers = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
};

export default defineConfig({
  base: './', // any sub-path
  publicDir: path('../demo'),
  resolve: {
    alias: [
      { find: /^gqa$/, replacement: path('../dist/index.js') },
      { find: /^gqa\/(\w+)$/, replacement: path('../dist/$1/index.js') },
    ],
  },
  plugins: [
    {
      name: 'content-security-policy',
      apply: 'build',
      transformIndexHtml: () => [
        { tag: 'meta', attrs: { 'http-equiv': 'Content-Security-Policy', content: POLICY } },
      ],
    },
  ],
  worker: {
    format: 'es',
    plugins: () => [
      {
        name: 'no-embedded-kernels',
        // The same bytes as the .wasm files, for bundles that cannot carry files.
        load: (id) => (id.endsWith('.embedded.js') ? "export default '';" : undefined),
      },
    ],
  },
  server: { headers },
  preview: { headers },
  build: {
    outDir: path('../dist/playground'),
    emptyOutDir: true,
    assetsInlineLimit: 0, // the policy allows no data: but images
    target: 'es2022',
  },
});
