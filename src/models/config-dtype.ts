/** The key of a config.json that says what its weights are stored as. */

/** The config with `dtype` (f32, f16, bf16) as transformers spells it, under the key that it has. */
export function configWithDtype(
  config: Readonly<Record<string, unknown>>,
  dtype: string,
): Readonly<Record<string, unknown>> {
  const name = { f32: 'float32', f16: 'float16', bf16: 'bfloat16' }[dtype] ?? dtype;
  const key = 'torch_dtype' in config && !('dtype' in config) ? 'torch_dtype' : 'dtype';
  return { ...config, [key]: name };
}
