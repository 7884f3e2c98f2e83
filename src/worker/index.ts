/**
 * Call functions of a worker from a page, so that a model runs beside the page's own thread. It imports no
 * kernels: a page that imports only this entry stays small.
 * @module gqa/worker
 */
export { connect, type Remote, type RemoteResult } from './connect.ts';
export { type ExposedFunctions, expose } from './expose.ts';
export { transfer } from './message.ts';
