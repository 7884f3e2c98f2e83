/** What a module of the kernels exports (kernels/wasm.h, gqa.h). Addresses come as signed 32-bit numbers. */
export interface KernelExports {
  readonly __stack_pointer: WebAssembly.Global;
  /** The address of GQA_ABI and the names of the operations, ended by 0. Modules of old versions have none. */
  gqa_abi?(): number;
  gqa_alloc(byteLength: number): number;
  gqa_free(address: number, byteLength: number): void;
  /** 1 when a job had fewer workers than there are threads wanted. */
  gqa_call(op: number, block: number): number;
  gqa_set_threads(threads: number): void;
  gqa_abandon(): void;
  gqa_bytes_in_use(): number;
  gqa_bytes_refused(): number;
}
