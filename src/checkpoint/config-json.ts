/**
 * config.json as it is written: the keys about stored weights, and the text. JavaScript writes 7.0 as 7, and
 * transformers 5 refuses an integer where its config class says `float`.
 *
 * Source: the configuration_*.py files of transformers 5.23.0 (fields of type `float` that are not also
 * `int`).
 */

type Json = Readonly<Record<string, unknown>>;

export const CONFIG = 'config.json';

const FLOATS: ReadonlySet<string> = new Set([
  ...['initializer_range', 'init_std', 'attention_dropout'],
  ...['rms_norm_eps', 'layer_norm_eps', 'layer_norm_epsilon', 'norm_eps', 'norm_epsilon'],
  ...['attn_logit_softcapping', 'final_logit_softcapping', 'attn_scale', 'logit_scale', 'clip_qkv'],
  ...['swiglu_alpha', 'swiglu_limit'],
  ...['router_aux_loss_coef', 'router_jitter_noise', 'routed_scaling_factor'],
  // Of the other parts of multimodal models.
  ...['pixel_shuffle_ratio', 'attention_logit_cap', 'attention_invalid_logits_value'],
  ...['gradient_clipping', 'residual_weight'],
]);

/** The text of a config, indented by two, with a line end. */
export function configText(config: unknown): string {
  const text = JSON.stringify(config, null, 2);
  return `${text.replace(/^( *"(\w+)": -?\d+)(?=,?$)/gm, (whole, number, key) => (FLOATS.has(key) ? `${number}.0` : whole))}\n`;
}

/**
 * The config with `dtype` (f32, f16, bf16) in transformers' spelling. Its key was `torch_dtype` until version
 * 4.
 */
export function configWithDtype(config: Json, dtype: string): Json {
  const name = { f32: 'float32', f16: 'float16', bf16: 'bfloat16' }[dtype] ?? dtype;
  const keys = ['dtype', 'torch_dtype'].filter((key) => key in config);
  return { ...config, ...Object.fromEntries((keys.length > 0 ? keys : ['dtype']).map((key) => [key, name])) };
}

/** The config with `tie_word_embeddings: false` for a model that has its own output head. */
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
