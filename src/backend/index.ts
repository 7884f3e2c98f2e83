export type { Backend, BackendFile, BackendName, KeyValueView, Operand } from './backend.ts';
export { backendOf, getBackend, setBackend, setThreads } from './registry.ts';
