/**
 * A backend as programs have it: what it is, and something to hand to caches and loaders. Its memory and its kernels trust their
 * arguments, so only this library calls them.
 */
import type { Backend, BackendName } from './backend.ts';
import { getBackend, setBackend } from './registry.ts';

/** Where tensors live and run. */
export interface BackendHandle {
  /** The backend's name. */
  readonly name: BackendName;
  /** For people: instruction set and threads, such as `native (avx512, 2 threads)`. */
  readonly description: string;
}

class Handle implements BackendHandle {
  readonly #backend: Backend;

  constructor(backend: Backend) {
    this.#backend = backend;
  }

  get name(): BackendName {
    return this.#backend.name;
  }

  get description(): string {
    return this.#backend.description;
  }

  static behind(handle: BackendHandle): Backend | undefined {
    return typeof handle === 'object' && handle !== null && #backend in handle ? handle.#backend : undefined;
  }
}

const handles = new WeakMap<Backend, BackendHandle>();

/** Always the same one for a backend. */
export function handleOf(backend: Backend): BackendHandle {
  let handle = handles.get(backend);
  if (!handle) {
    handle = new Handle(backend);
    handles.set(backend, handle);
  }
  return handle;
}

/** What a handle stands for; anything else is given back as it is. */
export function behindHandle(backend: BackendHandle | Backend): Backend {
  return Handle.behind(backend) ?? (backend as Backend);
}

/** The backend that new tensors are made on. Opens the default one on first use. */
export function currentBackend(): BackendHandle {
  return handleOf(getBackend());
}

/**
 * Makes `name` the backend of new tensors; existing tensors stay where they are.
 * @throws RangeError for an unknown name; Error when that backend cannot run here, with the reason.
 * @returns the backend.
 */
export async function chooseBackend(name: BackendName): Promise<BackendHandle> {
  return handleOf(await setBackend(name));
}
