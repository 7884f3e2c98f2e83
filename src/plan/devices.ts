/**
 * Memory bandwidth and arithmetic of common devices, as their makers state them: upper bounds of what programs
 * reach. FLOP/s are of dense bf16 or f16 products with f32 sums; absent where the maker does not state them.
 */

/** What bounds the time of a model on a device. */
export interface Device {
  /** Bytes per second that weights and cache are read with. */
  readonly bandwidth: number;
  /** Floating-point operations per second of matrix products; absent: no estimate of prefill. */
  readonly flops?: number;
  /** Seconds per layer and pass beside reading and products, such as starting kernels; default 0. */
  readonly secondsPerLayer?: number;
  /** Such as `rtx-4090`. */
  readonly id?: string;
  /** The maker's name of it. */
  readonly name?: string;
  /** Where the figures are from. */
  readonly source?: string;
}

const GB = 1e9;
const TERA = 1e12;

type Row = readonly [id: string, name: string, bandwidth: number, flops: number | undefined, source: string];

const ROWS: readonly Row[] = [
  ['a100-80gb', 'NVIDIA A100 80GB SXM', 2039, 312, 'NVIDIA A100 datasheet'],
  ['h100', 'NVIDIA H100 SXM', 3350, 989, 'NVIDIA H100 datasheet, half of the figure with sparsity'],
  ['h200', 'NVIDIA H200 SXM', 4800, 989, 'NVIDIA H200 datasheet, half of the figure with sparsity'],
  ['l4', 'NVIDIA L4', 300, 121, 'NVIDIA L4 datasheet, half of the figure with sparsity'],
  ['rtx-3090', 'NVIDIA GeForce RTX 3090', 936, 71, 'NVIDIA Ampere GA102 whitepaper'],
  ['rtx-4090', 'NVIDIA GeForce RTX 4090', 1008, 165.2, 'NVIDIA Ada GPU architecture whitepaper'],
  ['mi300x', 'AMD Instinct MI300X', 5300, 1307.4, 'AMD Instinct MI300X datasheet'],
  ['m1', 'Apple M1', 68.25, undefined, 'LPDDR4X-4266, 128 bits'],
  ['m2', 'Apple M2', 100, undefined, 'Apple newsroom, June 2022'],
  ['m4', 'Apple M4', 120, undefined, 'Apple newsroom, May 2024'],
  ['ddr4-3200', 'two channels of DDR4-3200', 51.2, undefined, '2 channels x 8 bytes x 3200 MT/s'],
  ['ddr5-5600', 'two channels of DDR5-5600', 89.6, undefined, '2 channels x 8 bytes x 5600 MT/s'],
];

const DEVICES: readonly Device[] = Object.freeze(
  ROWS.map(([id, name, gigabytes, teraflops, source]) =>
    Object.freeze({
      id,
      name,
      bandwidth: gigabytes * GB,
      ...(teraflops !== undefined && { flops: teraflops * TERA }),
      source,
    }),
  ),
);

/** Common devices, for `planSpeed`. */
export function listDevices(): readonly Device[] {
  return DEVICES;
}
