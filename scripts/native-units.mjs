/**
 * How the native kernels are compiled: the flags of all units, and which files of kernels/ are units on a
 * platform, with the flags of each. For the compiler of this machine (build-native.mjs) and for
 * cross-compiling (tools/prebuilt/build.mjs).
 */
const words = (text) => text.split(' ');

export const NATIVE_FLAGS = words(
  '-std=gnu11 -O3 -fvisibility=hidden -ffp-contract=fast -fno-math-errno -fno-trapping-math -DNAPI_VERSION=8',
);

const AVX512 = '-mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c -mprefer-vector-width=512';
const AVX2 = '-mavx2 -mfma -mf16c';
const UNITS = {
  x64: {
    'isa_avx512.c': words(AVX512),
    'isa_avx2.c': words(AVX2),
  },
  arm64: {},
};

/** Units that a compiler may not have the flags of: without them the file compiles to none (kernels/units.h). */
const OPTIONAL_UNITS = {
  x64: {
    'units_amx.c': words('-mamx-tile -mamx-bf16'),
    'units_avx512_bf16.c': words(`${AVX512} -mavx512bf16`),
    'units_avx512_vnni.c': words(`${AVX512} -mavx512vnni`),
    'units_avx2_vnni.c': words(`${AVX2} -mavxvnni`),
  },
  arm64: {
    'units_neon_bf16.c': words('-march=armv8.2-a+bf16'),
    'units_neon_dot.c': words('-march=armv8.2-a+dotprod'),
  },
};

/**
 * File -> its own flags.
 * @param platform, arch Node's names (`process.platform`, `process.arch`)
 * @param accepts whether the compiler takes a list of flags
 */
export function nativeUnits(platform, arch, accepts = () => true) {
  const optional = Object.entries(OPTIONAL_UNITS[arch] ?? {});
  return {
    ...UNITS[arch],
    ...Object.fromEntries(optional.map(([name, flags]) => [name, accepts(flags) ? flags : []])),
    'isa_baseline.c': [],
    'dispatch.c': [],
    'processor.c': [],
    'memory.c': [],
    'napi.c': [],
    [platform === 'win32' ? 'os_windows.c' : 'os_posix.c']: [],
    'scratch.c': [],
    'threads.c': [],
    'units.c': [],
  };
}
