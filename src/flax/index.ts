/** gqa/flax: entry points in the shape of Flax programs. */
export { fromLinenParams, type LinenParams } from './linen-params.ts';
export { mhaGqa, mhaMqa } from './mha.ts';
