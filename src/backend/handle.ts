/**
 * The public view of a backend: its name and description, to pass to caches and loaders. Memory and kernels
 * stay internal because they do not check their arguments.
 */
import type { Backend, BackendName } from './backend.ts';
import { getBackend, setBackend } from './registry.ts';

/** A backend: where tensors are stored and ops run. */
export interface BackendHandle {
  /** The backend's name. */
  readonly name: BackendName;
  /** For display: instruction set and threads, such as `native (avx512, 2 threads)`. */
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

/** The same handle each time for a backend. */
export function handleOf(backend: Backend): BackendHandle {
  let handle = handles.get(backend);
  if (!handle) {
    handle = new Handle(backend);
    handles.set(backend, handle);
  }
  return handle;
}

/** The backend of a handle; anything else is returned as it is. */
export function backendOfHandle(backend: BackendHandle | Backend): Backend {
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
