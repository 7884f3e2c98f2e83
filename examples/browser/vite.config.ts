import type { UserConfig } from 'vite';

// Threads need shared memory, which a page has only with these headers.
const headers = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
};
const config: UserConfig = { server: { headers }, preview: { headers } };
export default config;
