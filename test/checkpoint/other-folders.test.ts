/** Folders and files that are no model for this package: the error names what they are and what to do. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { openCheckpoint, type TensorBytes, writeSafetensors } from '../../src/checkpoint/index.ts';
import { loadModel } from '../../src/models/index.ts';
import { copyTiny, type Json, removeCheckpoints } from '../models/checkpoints.ts';

const made: string[] = [];
afterAll(() => {
  for (const path of made) rmSync(path, { recursive: true, force: true });
  removeCheckpoints();
});

/** A folder of such files, by path and text. */
function folderOf(files: Readonly<Record<string, string>>): string {
  const folder = mkdtempSync(join(tmpdir(), 'gqa-other-'));
  made.push(folder);
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  return folder;
}

async function said(opening: Promise<unknown>, folder: string): Promise<string> {
  const error = await opening.then(
    () => expect.fail('opened'),
    (reason: Error) => reason,
  );
  expect(error.message.split('\n')).toHaveLength(1);
  return error.message.replaceAll(folder, 'DIR');
}

const ADAPTER = JSON.stringify({ peft_type: 'LORA', base_model_name_or_path: 'meta-llama/Llama-3.2-1B' });

describe('folders', () => {
  test.each<[string, Record<string, string>, RegExp]>([
    ['nothing', {}, /^DIR: expected .*, got an empty directory$/],
    [
      'a LoRA adapter',
      { 'adapter_config.json': ADAPTER, 'adapter_model.safetensors': '', 'tokenizer.json': '{}' },
      /^DIR: expected safetensors or GGUF, got a LoRA adapter for meta-llama\/Llama-3.2-1B; merge it into its model first \(in Python: .*merge_and_unload/,
    ],
    [
      'a prompt',
      { 'adapter_config.json': '{"peft_type": "PROMPT_TUNING"}' },
      /got an adapter \(PROMPT_TUNING\); merge/,
    ],
    [
      'PyTorch',
      { 'config.json': '{}', 'pytorch_model.bin': 'PK' },
      /got PyTorch's pytorch_model\.bin; convert it to safetensors first/,
    ],
    [
      'PyTorch in parts',
      { 'pytorch_model.bin.index.json': '{}', 'pytorch_model-00001-of-00002.bin': '' },
      /got PyTorch's pytorch_model-00001-of-00002\.bin; convert/,
    ],
    [
      "Mistral's form",
      { 'consolidated.safetensors': '', 'params.json': '{}' },
      /got Mistral's own consolidated\.safetensors; take the form for transformers/,
    ],
    [
      'TensorFlow',
      { 'tf_model.h5': '', 'config.json': '{}' },
      /got TensorFlow's tf_model\.h5; load it in transformers 4 with from_tf=True/,
    ],
    [
      'Flax',
      { 'flax_model.msgpack': '', 'config.json': '{}' },
      /got Flax's flax_model\.msgpack; load it in transformers 4 with from_flax=True/,
    ],
    [
      'ONNX',
      { 'model.onnx': '', 'config.json': '{}' },
      /got ONNX's model\.onnx; take the model it was exported from/,
    ],
    ['ONNX below', { 'onnx/model.onnx': '', 'config.json': '{}' }, /got ONNX's onnx; take the model/],
    [
      'no weights',
      { 'config.json': '{}', 'tokenizer.json': '{}' },
      /got config\.json, tokenizer\.json and no weights; fetch model\.safetensors/,
    ],
    [
      "a hub's cache of a model",
      {
        'refs/main': 'abc123',
        'snapshots/abc123/config.json': '{}',
        'snapshots/aaa/config.json': '{}',
        'blobs/x': '',
      },
      /^DIR: expected safetensors or GGUF, got the cache folder of a download; give DIR\/snapshots\/abc123$/,
    ],
    [
      'a cache without snapshots',
      { 'refs/main': 'abc', 'blobs/x': '', 'snapshots/.keep': '' },
      /got the cache folder|got a cache folder/,
    ],
    [
      "a hub's cache",
      { 'models--a--b/refs/main': 'x', 'version.txt': '1' },
      /got a cache of downloads \(models--a--b\); give a folder below snapshots in one of them$/,
    ],
    [
      'a shard missing',
      {
        'model.safetensors.index.json': JSON.stringify({
          weight_map: { a: 'model-00001-of-00001.safetensors' },
        }),
      },
      /expected its 1 shards next to it, got no model-00001-of-00001\.safetensors; fetch the missing files$/,
    ],
  ])('%s', async (_, files, message) => {
    const folder = folderOf(files);
    expect(await said(openCheckpoint(folder), folder)).toMatch(message);
    expect(await said(loadModel(folder), folder)).toMatch(message);
  });

  test('a model beside an adapter', async () => {
    const folder = copyTiny('mha', {}, { 'adapter_config.json': ADAPTER });
    expect(await said(loadModel(folder), folder)).toMatch(
      /^DIR: expected a model alone, got a LoRA adapter .*, or move adapter_config\.json away to use the model without it$/,
    );
  });

  test('a JSON file', async () => {
    const folder = copyTiny('mha');
    expect(await said(loadModel(join(folder, 'config.json')), folder)).toBe(
      'DIR/config.json: expected weights, got a JSON file; give its directory',
    );
  });
});

describe('weights of other libraries', () => {
  const bytes = (dtype: TensorBytes['dtype'], length: number): TensorBytes => ({
    dtype,
    shape: [length],
    data: new Uint8Array(length * (dtype === 'i32' || dtype === 'f32' ? 4 : 1)),
  });
  const layer = 'model.layers.0.self_attn.q_proj';

  test.each<[string, Json, Record<string, TensorBytes>, RegExp]>([
    [
      'GPTQ',
      { quantization_config: { quant_method: 'gptq', bits: 4 } },
      { [`${layer}.qweight`]: bytes('i32', 4) },
      /quantization_config: expected f32, f16 or bf16, got gptq weights \(model\..*\.qweight\), which have no kernels here: load the model in transformers, dequantize it .*GGUF/,
    ],
    [
      'AWQ',
      { quantization_config: { quant_method: 'awq' } },
      { [`${layer}.qzeros`]: bytes('i32', 4) },
      /got awq weights/,
    ],
    [
      'bitsandbytes',
      { quantization_config: { load_in_4bit: true } },
      { [`${layer}.weight.absmax`]: bytes('f32', 4) },
      /got bitsandbytes weights/,
    ],
    [
      'fp8',
      { quantization_config: { quant_method: 'fp8' } },
      { [`${layer}.weight`]: bytes('f8_e4m3', 4) },
      /got fp8 weights \(model\..*q_proj\.weight\)/,
    ],
    [
      'fp8 without a word',
      {},
      { [`${layer}.weight`]: bytes('f8_e4m3', 4) },
      /weights: expected f32, f16 or bf16, got fp8 weights/,
    ],
    [
      'compressed tensors',
      { compression_config: { quant_method: 'compressed-tensors' } },
      { [`${layer}.weight_packed`]: bytes('i32', 4) },
      /compression_config: .* got compressed-tensors weights/,
    ],
    [
      'MLX',
      { quantization: { group_size: 64, bits: 4 } },
      { [`${layer}.scales`]: bytes('f32', 4) },
      /quantization: .* got MLX weights/,
    ],
    [
      'a config that says so of floats',
      { quantization_config: { quant_method: 'gptq' } },
      {},
      /if its weights are not quantised, remove quantization_config$/,
    ],
    [
      'an adapter',
      {},
      { 'base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight': bytes('f32', 4) },
      /expected the weights of a model, got a LoRA adapter's base_model\..*; merge it/,
    ],
  ])('%s', async (_, config, tensors, message) => {
    const folder = copyTiny('mha', config);
    if (Object.keys(tensors).length > 0) await writeSafetensors(join(folder, 'model.safetensors'), tensors);
    expect(await said(loadModel(folder), folder)).toMatch(message);
    // What is in it can still be looked at.
    await using checkpoint = await openCheckpoint(folder);
    expect(checkpoint.tensors.size).toBeGreaterThan(0);
  });
});
