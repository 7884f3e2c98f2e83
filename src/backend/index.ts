export type { Backend, BackendFile, BackendName, KeyValueView, Operand } from './backend.ts';
export { type BackendHandle, behindHandle, handleOf } from './handle.ts';
export { backendOf, getBackend, setBackend, setThreads } from './registry.ts';
