/** The keys of a config.json that say what its weights are stored as. */

/** The config with `dtype` (f32, f16, bf16) as transformers spells it, under the keys that it has (`torch_dtype` until version 4). */
export function configWithDtype(
  config: Readonly<Record<string, unknown>>,
  dtype: string,
): Readonly<Record<string, unknown>> {
  const name = { f32: 'float32', f16: 'float16', bf16: 'bfloat16' }[dtype] ?? dtype;
  const keys = ['dtype', 'torch_dtype'].filter((key) => key in config);
  return { ...config, ...Object.fromEntries((keys.length > 0 ? keys : ['dtype']).map((key) => [key, name])) };
}
