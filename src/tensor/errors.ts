/**
 * What an op throws when the backend has no kernel for a type; callers may branch on it and pick another
 * backend.
 */
export class UnsupportedError extends Error {
  readonly op: string;
  readonly dtype: string;
  readonly backend: string;

  constructor(op: string, dtype: string, backend: string, hint = '') {
    super(`${op}: ${dtype} is not supported by the ${backend} backend${hint && `; ${hint}`}`);
    this.name = 'UnsupportedError';
    this.op = op;
    this.dtype = dtype;
    this.backend = backend;
  }
}
