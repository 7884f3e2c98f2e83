/**
 * How the native kernels are compiled: the flags of all units, and which files of kernels/ are units on a
 * platform, with the flags of each. For the compiler of this machine (build-native.mjs) and for
 * cross-compiling (tools/prebuilt/build.mjs).
 */
const words = (text) => text.split(' ');

export const NATIVE_FLAGS = words(
  '-std=gnu11 -O3 -fvisibility=hidden -ffp-contract=fast -fno-math-errno -fno-trapping-math -DNAPI_VERSION=8',
);

const X64_UNITS = {
  'isa_avx512.c': words('-mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c -mprefer-vector-width=512'),
  'isa_avx2.c': words('-mavx2 -mfma -mf16c'),
};

/** File -> its own flags. `platform` and `arch` are Node's names (`process.platform`, `process.arch`). */
export function nativeUnits(platform, arch) {
  return {
    ...(arch === 'x64' ? X64_UNITS : {}),
    'isa_baseline.c': [],
    'dispatch.c': [],
    'memory.c': [],
    'napi.c': [],
    [platform === 'win32' ? 'os_windows.c' : 'os_posix.c']: [],
    'scratch.c': [],
    'threads.c': [],
  };
}
