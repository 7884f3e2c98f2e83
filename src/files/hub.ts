/**
 * Addresses of models on a hub: `org/name` is a repository, `org/name/file.gguf` a file of one, both at
 * revision `main`. The hub is Hugging Face's, or that of `HF_ENDPOINT`.
 */
import { environment } from '../platform/node.ts';
import { aToken } from './source-options.ts';

const HUB = 'https://huggingface.co';

/**
 * @param endpoint the hub's address
 * @returns the URL of the repository, which ends with `/`, or of the file; undefined when `id` is no hub id
 */
export function hubUrl(id: string, endpoint: string = hubEndpoint()): string | undefined {
  const match = /^(\w[\w.-]*\/\w[\w.-]*)(?:\/([\w./-]+))?$/.exec(id);
  if (match === null) return undefined;
  const [, repository, file = ''] = match;
  if (/(^|\/)\.{1,2}(\/|$)/.test(file)) return undefined;
  return `${endpoint.replace(/\/$/, '')}/${repository}/resolve/main/${file}`;
}

/** The address of the files, for that of a page of the hub; other addresses as they are. */
export function fileUrl(url: URL): URL {
  if (url.origin !== originOf(hubEndpoint())) return url;
  const found = new URL(url);
  found.pathname = url.pathname
    .replace(/^\/(?!api\/|datasets\/|spaces\/)([\w.-]+\/[\w.-]+)\/?$/, '/$1/resolve/main/')
    .replace(/^(\/[\w.-]+\/[\w.-]+)\/tree\/([^/]+)\/?/, '$1/resolve/$2/')
    .replace(/^(\/[\w.-]+\/[\w.-]+)\/blob\//, '$1/resolve/');
  return found;
}

/** The token of the environment (`HF_TOKEN`) for an address of the hub; undefined for all others. */
export function hubToken(url: URL): string | undefined {
  if (url.origin !== originOf(hubEndpoint())) return undefined;
  const token = environment('HF_TOKEN')?.trim();
  if (token) aToken('HF_TOKEN', 'it', token);
  return token || undefined;
}

function hubEndpoint(): string {
  return environment('HF_ENDPOINT') ?? HUB;
}

function originOf(url: string): string | undefined {
  try {
    return new URL(url).origin;
  } catch {
    return undefined;
  }
}
