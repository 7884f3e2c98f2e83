/**
 * Entry points in the shape of Flax programs.
 * @module gqa/flax
 */
export { fromLinenParams, type LinenParams } from './linen-params.ts';
export { mhaGqa, mhaMqa } from './mha.ts';
