/**
 * The platforms with prebuilt kernels. A key is the name of the package in the scope `@gqa`; `target` is the
 * compiler's name for it, the rest are the fields of its manifest by which npm installs it or not.
 */
export const PLATFORMS = {
  'linux-x64': { target: 'x86_64-linux-gnu.2.17', os: 'linux', cpu: 'x64', libc: 'glibc' },
  'linux-x64-musl': { target: 'x86_64-linux-musl', os: 'linux', cpu: 'x64', libc: 'musl' },
  'linux-arm64': { target: 'aarch64-linux-gnu.2.17', os: 'linux', cpu: 'arm64', libc: 'glibc' },
  'linux-arm64-musl': { target: 'aarch64-linux-musl', os: 'linux', cpu: 'arm64', libc: 'musl' },
  'darwin-x64': { target: 'x86_64-macos', os: 'darwin', cpu: 'x64' },
  'darwin-arm64': { target: 'aarch64-macos', os: 'darwin', cpu: 'arm64' },
  'win32-x64': { target: 'x86_64-windows-gnu', os: 'win32', cpu: 'x64' },
};
