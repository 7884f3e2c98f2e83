/**
 * The text of a config.json. JavaScript writes 7.0 as 7, and transformers 5 refuses an integer where its config class says `float`.
 *
 * Source: the configuration_*.py files of transformers 5.23.0 (fields of type `float` that are not also `int`).
 */

const FLOATS: ReadonlySet<string> = new Set([
  ...['initializer_range', 'rms_norm_eps', 'layer_norm_epsilon', 'norm_epsilon', 'attention_dropout'],
  ...['attn_logit_softcapping', 'final_logit_softcapping'],
  ...['swiglu_alpha', 'swiglu_limit', 'router_aux_loss_coef', 'routed_scaling_factor'],
]);

/** Indented by two, with a line end. */
export function configText(config: unknown): string {
  const text = JSON.stringify(config, null, 2);
  return `${text.replace(/^( *"(\w+)": -?\d+)(?=,?$)/gm, (whole, number, key) => (FLOATS.has(key) ? `${number}.0` : whole))}\n`;
}
