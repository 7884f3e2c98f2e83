/**
 * Describes files and folders that are no checkpoint, and says what to do with them: adapters, caches, other
 * formats.
 */
import { type FileSource, type Folder, readSmallJson, readSmallText } from '../files/folder.ts';
import { FormatError } from '../format/format-error.ts';

const MAX_JSON_BYTES = 1 << 20;

const TO_SAFETENSORS =
  'convert it to safetensors first (in Python: AutoModelForCausalLM.from_pretrained(dir).save_pretrained(out))';

/** By file name: the framework of other formats, and how to get safetensors. */
const FOREIGN: readonly (readonly [pattern: RegExp, framework: string, todo: string])[] = [
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

/** @returns `got …; what to do`; undefined for a folder that is not recognised */
export async function describeOtherFolder(
  folder: Folder,
  names: readonly string[],
): Promise<string | undefined> {
  const adapter = await describeAdapter(folder, names);
  if (adapter !== undefined) return adapter;
  if (names.includes('snapshots') && (names.includes('refs') || names.includes('blobs'))) {
    return describeCachedModel(folder);
  }
  const cached = names.filter((name) => name.startsWith('models--'));
  if (cached.length > 0) {
    return `got a cache of downloads (${cached.slice(0, 3).join(', ')}${cached.length > 3 ? ' …' : ''}); give a folder below snapshots in one of them`;
  }
  for (const [pattern, framework, todo] of FOREIGN) {
    const name = names.find((one) => pattern.test(one));
    if (name !== undefined) return `got ${framework} ${name}; ${todo}`;
  }
  const described = names.filter((name) => /^(config|tokenizer|generation_config).*\.json$/.test(name));
  if (described.length === 0) return undefined;
  return `got ${described.join(', ')} and no weights; fetch model.safetensors, or its shards and their index, too`;
}

/** The adapter in a folder, with or without a model beside it, as `describeOtherFolder` describes it. */
export async function describeAdapter(folder: Folder, names: readonly string[]): Promise<string | undefined> {
  const name = 'adapter_config.json';
  if (!names.includes(name)) return undefined;
  const config = await readSmallJson(folder, name, MAX_JSON_BYTES);
  const { peft_type: type, base_model_name_or_path: base } = (config ?? {}) as Readonly<
    Record<string, unknown>
  >;
  const kind = typeof type === 'string' && type !== 'LORA' ? `an adapter (${type})` : 'a LoRA adapter';
  const of = typeof base === 'string' && base !== '' ? ` for ${base}` : '';
  return `got ${kind}${of}; merge it into its model first (in Python: PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), dir).merge_and_unload().save_pretrained(out))`;
}

/** A model's folder in the cache of huggingface_hub: its files lie below `snapshots/<revision>`. */
async function describeCachedModel(folder: Folder): Promise<string> {
  const snapshots = folder.folder('snapshots');
  const revisions = (await snapshots.list().catch(() => [])).map(({ name }) => name);
  const named = await readSmallText(folder.folder('refs'), 'main', MAX_JSON_BYTES).catch(() => undefined);
  const revision = revisions.find((name) => name === named?.trim()) ?? revisions[0];
  if (revision === undefined) return 'got a cache folder without snapshots; download the model again';
  return `got the cache folder of a download; give ${snapshots.nameOf(revision)}`;
}

const POINTER = 'expected weights, got a Git LFS pointer; fetch the file with git lfs pull';
const isPointer = (start: Uint8Array) => ascii(start).startsWith('version https://git-lfs');

/** @throws FormatError for a Git LFS pointer in place of a large file */
export async function refusePointer(source: FileSource): Promise<void> {
  if (isPointer(await startOf(source))) throw new FormatError(source.name, 0, POINTER);
}

/** @throws FormatError for the page of a web server in place of a file */
export function refusePage(name: string, start: Uint8Array): void {
  if (!/^\s*<(!doctype html|html)/i.test(ascii(start))) return;
  throw new FormatError(name, 0, 'expected a model, got an HTML page; fetch the file itself');
}

/** The first bytes of a file, enough to recognise its format. */
export function startOf(source: FileSource): Promise<Uint8Array> {
  return source.read(0, Math.min(source.size, 64));
}

/** The error for a file that no format recognises. @param accepted the files that are accepted */
export function foreignFile(file: string, start: Uint8Array, accepted: string): FormatError {
  const name = file.toLowerCase();
  if (isPointer(start)) return new FormatError(file, 0, POINTER);
  if (name.endsWith('.index.json')) {
    return new FormatError(file, undefined, 'expected weights, got the index of shards; give its directory');
  }
  if (name.endsWith('.json')) {
    return new FormatError(file, undefined, 'expected weights, got a JSON file; give its directory');
  }
  if (ascii(start).startsWith('PK') || /\.(bin|pth?|ckpt)$/.test(name)) {
    const what = `expected safetensors or GGUF, got a PyTorch or zip file; ${TO_SAFETENSORS}`;
    return new FormatError(file, 0, what);
  }
  const bytes = [...start.subarray(0, 8)].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
  const got = `a file that begins with ${bytes || 'nothing (it is empty)'}`;
  return new FormatError(file, 0, `expected ${accepted}, got ${got}`);
}

function ascii(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes.filter((byte) => byte < 0x80));
}

/** At most three names, as an error prints them. */
export function nameList(names: readonly string[]): string {
  const shown = names.slice(0, 3).join(', ');
  return names.length > 3 ? `${shown} and ${names.length - 3} more` : shown;
}
