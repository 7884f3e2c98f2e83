/**
 * Functions with the interface of small Flax programs.
 * @module gqa/flax
 */
export { fromLinenParams, type LinenParams } from './linen-params.ts';
export { mhaGqa, mhaMqa } from './mha.ts';
