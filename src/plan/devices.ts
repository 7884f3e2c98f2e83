/**
 * Theoretical peaks of common devices, upper bounds of what programs reach. Bandwidth is that of the memory.
 * FLOP/s are those of the matrix units (tensor cores) for dense products of bf16 or f16 with sums in f32, not
 * the twice higher ones with sparsity, and not those of f16 sums, fp8 or int8. Rows without FLOP/s are of
 * devices for which no such figure is known. Each row names what its figures were read in.
 */

/** What bounds the time of a model on a device. */
export interface Device {
  /** Bytes per second (10^9 a GB/s) that weights and cache are read with. */
  readonly bandwidth: number;
  /**
   * Floating-point operations per second of dense matrix products, a multiplication and an addition counted
   * as two; absent: no estimate of prefill.
   */
  readonly flops?: number;
  /** Such as `rtx-4090`. */
  readonly id?: string;
  /** The maker's name of it. */
  readonly name?: string;
  /** What the figures were read in: bandwidth, then FLOP/s if that is another document. */
  readonly source?: string;
}

const GB = 1e9;
const TERA = 1e12;

const LIGHTNING = 'Lightning-AI/pytorch-lightning src/lightning/fabric/utilities/throughput.py';
const LLM_C = 'karpathy/llm.c llmc/mfu.h';
const LLMFIT = 'AlexsJones/llmfit llmfit-core/src/hardware.rs';
const ML_ENGINEERING = 'stas00/ml-engineering compute/accelerator/README.md';
const MODULES = 'calculator-cloud.com, Memory Bandwidth';
const NANOREVIEW = 'nanoreview.net, Apple M2 vs Apple M1';

/** Bandwidth in GB/s, arithmetic in TFLOP/s. */
type Row = readonly [id: string, name: string, bandwidth: number, flops: number | undefined, source: string];

const ROWS: readonly Row[] = [
  ['a100-80gb', 'NVIDIA A100 80GB SXM', 2039, 312, `${LLMFIT}; ${LLM_C}`],
  ['h100', 'NVIDIA H100 SXM', 3350, 989, ML_ENGINEERING],
  ['h200', 'NVIDIA H200 SXM', 4800, 989, ML_ENGINEERING],
  ['l4', 'NVIDIA L4', 300, 121, `${LLMFIT}; ${LIGHTNING}`],
  ['rtx-3090', 'NVIDIA GeForce RTX 3090', 936, 71.2, `${LLMFIT}; ${LLM_C}`],
  ['rtx-4090', 'NVIDIA GeForce RTX 4090', 1008, 165.2, `${LLMFIT}; ${LLM_C}`],
  ['mi300x', 'AMD Instinct MI300X', 5300, 1307.4, ML_ENGINEERING],
  ['m1', 'Apple M1', 68.25, undefined, NANOREVIEW],
  ['m2', 'Apple M2', 102.4, undefined, NANOREVIEW],
  ['m4', 'Apple M4', 120, undefined, 'engadget.com, 7 May 2024, on the M4'],
  ['ddr4-3200', 'two channels of DDR4-3200', 51.2, undefined, `${MODULES}: 2 x 8 bytes x 3200 MT/s`],
  ['ddr5-5600', 'two channels of DDR5-5600', 89.6, undefined, `${MODULES}: 2 x 8 bytes x 5600 MT/s`],
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

/** Common devices, for `planSpeed`, with their theoretical peaks. */
export function listDevices(): readonly Device[] {
  return DEVICES;
}
