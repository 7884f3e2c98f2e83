/**
 * Which type each tensor of a quantised GGUF file has, as llama.cpp chooses them for Q4_0, Q4_K_M, Q6_K and
 * Q8_0: more bits for the output head, and in Q4_K_M for values and down projections of some layers.
 *
 * Source: llama.cpp src/llama-quant.cpp (tensor_allows_quantization, llama_tensor_get_type_impl,
 * tensor_type_fallback).
 */
import { type StorageType, storageLayout } from './storage-type.ts';

/** What the choice depends on: a model's shape has it, and a decoder's config. */
export interface MixtureModel {
  readonly modelType: string;
  readonly numLayers: number;
  readonly numHeads: number;
  readonly numKeyValueHeads: number;
  readonly experts?: { readonly numExperts: number };
  /** Whether the table of embeddings is the output head too. */
  readonly tiedEmbeddings: boolean | undefined;
}

/** The types with a mixture; files in another block type have it in all matrices here. */
export const MIXTURE_TYPES: readonly StorageType[] = ['q8_0', 'q6_k', 'q4_k', 'q4_0'];

const FALCON = ['falcon', 'RefinedWeb', 'RefinedWebModel'];

/** Matrices that are small or sensitive: routers, positions, and those of other parts than the decoder. */
const KEPT = /_norm\.weight$|ffn_gate_inp\.weight$|position_embd|token_types|ssm_conv1d|shortconv\.conv/;

/** `general.file_type` (LLAMA_FTYPE_*) by the type of most tensors. */
export const FILE_TYPES: Partial<Record<StorageType, number>> = {
  f32: 0,
  f16: 1,
  q4_0: 2,
  q8_0: 7,
  q4_k: 15,
  q6_k: 18,
  bf16: 32,
};

/**
 * @param columns length of the tensor's rows
 * @returns undefined for a tensor that is not quantised
 */
export function mixedType(
  name: string,
  columns: number,
  type: StorageType,
  model: MixtureModel,
): StorageType | undefined {
  if (!name.endsWith('weight') || KEPT.test(name)) return undefined;
  return fitting(chosen(name, columns, type, model), columns);
}

function chosen(name: string, columns: number, type: StorageType, model: MixtureModel): StorageType {
  const { modelType, numLayers, experts, tiedEmbeddings } = model;
  const isFalcon = FALCON.includes(modelType);
  const hasEightExperts = experts?.numExperts === 8;
  const isTable = name === 'token_embd.weight';
  if (name === 'output.weight' || (isTable && tiedEmbeddings)) {
    const isWhole = columns % storageLayout(type).blockLength === 0;
    return type === 'q8_0' || isFalcon || !isWhole ? 'q8_0' : 'q6_k';
  }
  if (type !== 'q4_k' && !hasEightExperts) return type;
  const layer = Number(/^blk\.(\d+)\./.exec(name)?.[1] ?? 0);
  const isValue = /attn_(v|qkv|kv_b)\.weight/.test(name);
  // llama.cpp gives the eight experts of Mixtral's size values and keys of 8 bits.
  if (hasEightExperts && (isValue || name.includes('attn_k.weight'))) return 'q8_0';
  if (type !== 'q4_k') return type;
  const more = takesMoreBits(layer, numLayers);
  if (isValue) return more ? 'q6_k' : !isFalcon && isSeventyBillion(model) ? 'q5_k' : type;
  if (name.includes('ffn_down')) {
    if (!isFalcon) return more ? 'q6_k' : type;
    return layer < Math.floor(numLayers / 16) ? 'q6_k' : more ? 'q5_k' : type;
  }
  return name.includes('attn_output') && !isFalcon && hasEightExperts ? 'q5_k' : type;
}

/** The first and the last eighth of the layers, and every third between. */
function takesMoreBits(layer: number, numLayers: number): boolean {
  const eighth = Math.floor(numLayers / 8);
  return layer < eighth || layer >= Math.floor((7 * numLayers) / 8) || (layer - eighth) % 3 === 2;
}

/** LLM_TYPE_70B of llama.cpp. */
function isSeventyBillion({ numLayers, numHeads, numKeyValueHeads }: MixtureModel): boolean {
  return numLayers === 80 && numHeads !== numKeyValueHeads;
}

const FALLBACK: Partial<Record<StorageType, StorageType>> = { q4_k: 'q5_0', q5_k: 'q5_1', q6_k: 'q8_0' };

/** The type itself, or for rows that are not whole blocks of it one of smaller blocks, else f16. */
function fitting(type: StorageType, columns: number): StorageType {
  const fits = (candidate: StorageType) => columns % storageLayout(candidate).blockLength === 0;
  const other = FALLBACK[type];
  if (fits(type)) return type;
  return other !== undefined && fits(other) ? other : 'f16';
}
