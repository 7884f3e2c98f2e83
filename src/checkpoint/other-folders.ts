/** What a folder without weights for this package is, and what to do with it: adapters, caches, other frameworks' files. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { parseJson } from '../format/parse-json.ts';
import { readSmallFile } from './file-source.ts';

const MAX_JSON_BYTES = 1 << 20;

export const TO_SAFETENSORS =
  'convert it to safetensors first (in Python: AutoModelForCausalLM.from_pretrained(dir).save_pretrained(out))';

/** By file name: whose files they are, and how they become safetensors. */
const FOREIGN: readonly (readonly [pattern: RegExp, whose: string, todo: string])[] = [
  [/^(pytorch_model|consolidated).*\.(bin|pth|pt)$/, "PyTorch's", TO_SAFETENSORS],
  [/^pytorch_model\.bin\.index\.json$/, "PyTorch's", TO_SAFETENSORS],
  [
    /^consolidated.*\.safetensors$/,
    "Mistral's own",
    'take the form for transformers: model.safetensors and config.json',
  ],
  [/^tf_model.*\.h5$/, "TensorFlow's", 'load it in transformers 4 with from_tf=True and save it'],
  [/^flax_model.*\.msgpack$/, "Flax's", 'load it in transformers 4 with from_flax=True and save it'],
  [/(\.onnx(_data)?|^onnx)$/, "ONNX's", 'take the model it was exported from'],
  [/^openvino_model\.(xml|bin)$/, "OpenVINO's", 'take the model it was exported from'],
  [/\.(mlpackage|mlmodel)$/, "Core ML's", 'take the model it was exported from'],
  [/^rust_model\.ot$/, "rust-bert's", 'take the PyTorch or safetensors form of the model'],
];

/** @returns `got …; what to do`, or undefined for a folder of another kind */
export async function describeOtherFolder(
  directory: string,
  names: readonly string[],
): Promise<string | undefined> {
  const adapter = await describeAdapter(directory, names);
  if (adapter !== undefined) return adapter;
  if (names.includes('snapshots') && (names.includes('refs') || names.includes('blobs'))) {
    return describeCachedModel(directory);
  }
  const cached = names.filter((name) => name.startsWith('models--'));
  if (cached.length > 0) {
    return `got a cache of downloads (${cached.slice(0, 3).join(', ')}${cached.length > 3 ? ' …' : ''}); give a folder below snapshots in one of them`;
  }
  for (const [pattern, whose, todo] of FOREIGN) {
    const name = names.find((one) => pattern.test(one));
    if (name !== undefined) return `got ${whose} ${name}; ${todo}`;
  }
  const described = names.filter((name) => /^(config|tokenizer|generation_config).*\.json$/.test(name));
  if (described.length === 0) return undefined;
  return `got ${described.join(', ')} and no weights; fetch model.safetensors, or its shards and their index, too`;
}

/** Of a folder with an adapter, beside a model or not. */
export async function describeAdapter(
  directory: string,
  names: readonly string[],
): Promise<string | undefined> {
  const name = 'adapter_config.json';
  if (!names.includes(name)) return undefined;
  const bytes = await readSmallFile(join(directory, name), MAX_JSON_BYTES);
  const config = bytes && parseJson(join(directory, name), bytes);
  const { peft_type: type, base_model_name_or_path: base } = (config ?? {}) as Readonly<
    Record<string, unknown>
  >;
  const kind = typeof type === 'string' && type !== 'LORA' ? `an adapter (${type})` : 'a LoRA adapter';
  const of = typeof base === 'string' && base !== '' ? ` for ${base}` : '';
  return `got ${kind}${of}; merge it into its model first (in Python: PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), dir).merge_and_unload().save_pretrained(out))`;
}

/** A model's folder in the cache of huggingface_hub: its files lie below `snapshots/<revision>`. */
async function describeCachedModel(directory: string): Promise<string> {
  const revisions = await readdir(join(directory, 'snapshots')).catch(() => []);
  const main = await readSmallFile(join(directory, 'refs', 'main'), MAX_JSON_BYTES).catch(() => undefined);
  const named = main && new TextDecoder().decode(main).trim();
  const revision = revisions.find((name) => name === named) ?? revisions.sort()[0];
  if (revision === undefined) return 'got a cache folder without snapshots; download the model again';
  return `got the cache folder of a download; give ${join(directory, 'snapshots', revision)}`;
}
