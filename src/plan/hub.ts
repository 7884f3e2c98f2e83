/**
 * The URL of a Hugging Face hub id: `org/name` is the config.json of that repository, `org/name/file.gguf`
 * that file, both at revision `main`.
 * @returns undefined when `id` does not have the form of a hub id
 */
export function hubUrl(id: string, endpoint = 'https://huggingface.co'): string | undefined {
  const match = /^([\w.-]+\/[\w.-]+)(?:\/([\w./-]+))?$/.exec(id);
  if (match === null || id.startsWith('.')) return undefined;
  const [, repository, file = 'config.json'] = match;
  return `${endpoint.replace(/\/$/, '')}/${repository}/resolve/main/${file}`;
}
