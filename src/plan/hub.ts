/** Hugging Face hub ids as URLs: `org/name` is its config.json, `org/name/file.gguf` that file, both at `main`. */

/** @returns the URL, or undefined when `id` has not the form of a hub id */
export function hubUrl(id: string, endpoint = 'https://huggingface.co'): string | undefined {
  const match = /^([\w.-]+\/[\w.-]+)(?:\/([\w./-]+))?$/.exec(id);
  if (match === null || id.startsWith('.')) return undefined;
  const [, repository, file = 'config.json'] = match;
  return `${endpoint.replace(/\/$/, '')}/${repository}/resolve/main/${file}`;
}
