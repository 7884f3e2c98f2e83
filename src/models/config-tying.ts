/** The key of a config.json that says whether the output head is the embedding table. */

type Json = Readonly<Record<string, unknown>>;

/** The config with `tie_word_embeddings: false` where it says otherwise of a model whose head is its own. */
export function configWithTying(
  config: Json,
  { tiedEmbeddings }: { readonly tiedEmbeddings: boolean },
): Json {
  if (tiedEmbeddings) return config;
  const text = config.text_config;
  const untied = (one: Json): Json =>
    'tie_word_embeddings' in one ? { ...one, tie_word_embeddings: false } : one;
  return {
    ...config,
    tie_word_embeddings: false,
    ...(typeof text === 'object' && text !== null && { text_config: untied(text as Json) }),
  };
}
