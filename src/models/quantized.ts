/**
 * Weights of a safetensors checkpoint that no kernel here reads: quantised by another library, or an
 * adapter's.
 */
import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import { FormatError } from '../format/format-error.ts';

/** The quantisation method by the suffix of a tensor's name. */
const MARKS: readonly (readonly [end: RegExp, method: string])[] = [
  [/\.lora_(A|B|embedding_A|embedding_B)(\.\w+)?(\.weight)?$/, 'adapter'],
  [/\.(qweight|qzeros|g_idx)$/, 'GPTQ or AWQ'],
  [/\.weight\.(absmax|quant_map|quant_state\..*)$|\.SCB$/, 'bitsandbytes'],
  [/\.weight_scale_inv$/, 'fp8'],
  [/\.(weight_packed|weight_scale|weight_zero_point|input_scale)$/, 'compressed-tensors'],
];

const REMEDY =
  'load the model in transformers, dequantize it (model.dequantize()) and save it, or take a GGUF of it (q8_0, q4_0, q4_1, q5_0, q5_1, q2_k to q6_k, iq4_nl, iq4_xs, mxfp4)';

/** @throws FormatError with the quantisation method and a remedy */
export function refuseForeignWeights({ tensors, config, folder, path }: Checkpoint): void {
  if (tensors.size === 0) return;
  let found: { readonly name: string; readonly method: string } | undefined;
  for (const { name, dtype } of tensors.values()) {
    const method = dtype.startsWith('f8') ? 'fp8' : MARKS.find(([end]) => end.test(name))?.[1];
    if (method !== undefined) found ??= { name, method };
  }
  if (found?.method === 'adapter') {
    throw new FormatError(
      path,
      undefined,
      `expected the weights of a model, got a LoRA adapter's ${found.name}; merge it into its model first (in Python: PeftModel.merge_and_unload)`,
    );
  }
  const json = (config ?? {}) as Readonly<Record<string, unknown>>;
  const key = ['quantization_config', 'compression_config', 'quantization'].find(
    (name) => json[name] != null,
  );
  const stated = key === undefined ? undefined : (json[key] as Readonly<Record<string, unknown>>);
  // gpt-oss has its own suffixes for quantised blocks.
  if (stated?.quant_method === 'mxfp4' || (stated === undefined && found === undefined)) return;
  const own =
    stated?.quant_method ?? (stated?.load_in_4bit || stated?.load_in_8bit ? 'bitsandbytes' : undefined);
  const method =
    typeof own === 'string' ? own : (found?.method ?? (key === 'quantization' ? 'MLX' : 'quantised'));
  const where = found === undefined ? '' : ` (${found.name})`;
  const plain = found === undefined ? `; if its weights are not quantised, remove ${key}` : '';
  throw new FormatError(
    folder.nameOf('config.json'),
    undefined,
    `${key ?? 'weights'}: expected f32, f16 or bf16, got ${method} weights${where}, which have no kernels here: ${REMEDY}${plain}`,
  );
}
