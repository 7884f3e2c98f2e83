/** gqa/flax: entry points in the shape of Flax programs. */
export { LinenGqa, type LinenGqaOptions, NnxMqa, type NnxMqaOptions } from './gqa-module.ts';
export { fromLinenParams, type LinenParams } from './linen-params.ts';
export { mhaGqa, mhaMqa } from './mha.ts';
