export type { Backend, BackendFile, BackendName } from './backend.ts';
export type { KeyValueView } from './calls/attention.ts';
export type { Operand } from './calls/call.ts';
export { type BackendHandle, backendOfHandle, handleOf } from './handle.ts';
export { backendOf, getBackend, setBackend, setThreads } from './registry.ts';
