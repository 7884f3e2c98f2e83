/**
 * A Hugging Face Llama or Mistral in GGUF's `llama` form: names, keys, and the rows of q and k permuted so
 * that rotated pairs are neighbours. The permutation stays inside a head, so it commutes with pooling: it is
 * applied to the blocks of the plan.
 *
 * Source: llama.cpp convert_hf_to_gguf.py (LlamaModel: permute, generate_extra_tensors), gguf-py
 * constants.py.
 */
import type { GgufPair } from '../checkpoint/write-gguf.ts';
import { FormatError } from '../format/format-error.ts';
import type { DecoderConfig } from '../models/decoder-config.ts';
import { FAMILIES } from '../models/families/families.ts';
import { ggufNames } from '../models/families/gated-decoder.ts';
import { ggufTokenizer } from './gguf-tokenizer.ts';
import type { Block, BlockSource, TensorPlan } from './tensor-plan.ts';
import type { GgufTensors, WriteJob } from './write-job.ts';

/**
 * @throws FormatError for a family that GGUF stores in another form, or a RoPE scaling that is not written
 * here
 */
export async function ggufFromHuggingFace(
  job: WriteJob,
  plans: ReadonlyMap<string, TensorPlan>,
): Promise<{ metadata: Map<string, GgufPair>; tensors: GgufTensors }> {
  const { checkpoint, config } = job;
  const problem = llamaProblem(job);
  if (problem) throw new FormatError(checkpoint.folder.nameOf('config.json'), undefined, problem);
  const tensors: GgufTensors = new Map();
  const put = (to: string, from: string, plan?: TensorPlan) => {
    const info = checkpoint.tensors.get(from);
    if (info) tensors.set(to, { info, plan: plan ?? plans.get(from) });
  };
  const both = (to: string, from: string) => {
    put(`${to}.weight`, `${from}.weight`);
    put(`${to}.bias`, `${from}.bias`);
  };
  const { names } = job;
  put('token_embd.weight', `${names.embedding}.weight`);
  for (let i = 0; i < config.numLayers; i++) {
    const from = names.layer(i);
    const to = ggufNames.layer(i);
    both(to.attentionNorm, from.attentionNorm);
    [config.numHeads, config.numKeyValueHeads].forEach((heads, part) => {
      for (const kind of ['weight', 'bias']) {
        const name = `${from.queryKeyValue[part]}.${kind}`;
        put(`${to.queryKeyValue[part]}.${kind}`, name, permuted(config, heads, plans.get(name)));
      }
    });
    both(to.queryKeyValue[2], from.queryKeyValue[2]);
    both(to.attentionOutput, from.attentionOutput);
    if (to.mlpNorm && from.mlpNorm) both(to.mlpNorm, from.mlpNorm);
    both(to.gateUp[0], from.gateUp[0]);
    both(to.gateUp[1], from.gateUp[1]);
    both(to.down, from.down);
  }
  both('output_norm', names.finalNorm);
  if (!config.tiedEmbeddings) both('output', names.head);
  const metadata = new Map([...modelKeys(job), ...(await ggufTokenizer(checkpoint, config.vocabSize))]);
  return { metadata, tensors };
}

/** What GGUF's `llama` form cannot express; undefined when it can express the model. */
function llamaProblem({ family, config }: WriteJob): string | undefined {
  const advice = 'write a directory, and convert that with llama.cpp';
  if (family.ggufForm !== 'llama') {
    const known = FAMILIES.filter(({ ggufForm }) => ggufForm === 'llama').flatMap((one) => one.modelTypes);
    return `model_type: expected ${known.join(' or ')} to write GGUF from safetensors, got ${config.modelType}; ${advice}`;
  }
  const scaling = config.rope?.scaling?.type;
  if (scaling !== undefined && scaling !== 'linear') {
    return `rope_type: expected default or linear to write GGUF, got ${scaling}; ${advice}`;
  }
  const { activation } = config.mlp;
  if (activation === 'silu') return undefined;
  return `hidden_act: expected silu to write GGUF, whose llama form has no other, got ${activation}; write a directory`;
}

/** Row r of a new head comes from row (r % 2) * H/2 + r/2 of it as Hugging Face has it. */
function permuted({ headDim: H }: DecoderConfig, heads: number, plan: TensorPlan | undefined): TensorPlan {
  const place = (r: number) => (r % 2) * (H / 2) + (r >> 1);
  const whole: Block[] = Array.from({ length: heads }, (_, head) => ({
    size: H,
    sources: [{ first: head * H, weight: 1 }],
  }));
  const blocks = (plan?.blocks ?? whole)
    .flatMap((block) => splitToHeads(block, H))
    .flatMap((block): Block[] => {
      const { sources, values } = block;
      if (values) return [{ ...block, values: permutedRows(values, H, place) }];
      if (sources.length === 0) return [block]; // random: its order does not matter
      if (sources.some(({ matrix }) => matrix !== undefined)) {
        const turn = (source: BlockSource) => ({ ...source, matrix: turned(source.matrix, H, place) });
        return [{ ...block, sources: sources.map(turn) }];
      }
      return Array.from({ length: H }, (_, r) => ({ size: 1, sources: moved(sources, place(r)) }));
    });
  return { axis: 0, blocks, draw: plan?.draw ?? { stddev: 0, stream: 0 } };
}

function splitToHeads(block: Block, H: number): Block[] {
  const { size, sources } = block;
  if (size === H) return [block];
  return Array.from({ length: size / H }, (_, i) => ({ size: H, sources: moved(sources, i * H) }));
}

/** Row r of the result is row place(r) of `values`, `[H, columns]`. */
function permutedRows(values: Float32Array, H: number, place: (r: number) => number): Float32Array {
  const columns = values.length / H;
  const out = new Float32Array(values.length);
  for (let r = 0; r < H; r++)
    out.set(values.subarray(place(r) * columns, (place(r) + 1) * columns), r * columns);
  return out;
}

function moved(sources: readonly BlockSource[], rows: number): BlockSource[] {
  return sources.map((source) => ({ ...source, first: source.first + rows }));
}

/** The source's matrix followed by the permutation; the permutation alone for a source without a matrix. */
function turned(matrix: Float64Array | undefined, H: number, place: (r: number) => number): Float64Array {
  const out = new Float64Array(H * H);
  for (let r = 0; r < H; r++) {
    if (matrix) out.set(matrix.subarray(place(r) * H, (place(r) + 1) * H), r * H);
    else out[r * H + place(r)] = 1;
  }
  return out;
}

function modelKeys({ checkpoint, config, numKeyValueHeads: K }: WriteJob): Map<string, GgufPair> {
  const u32 = (value: number): GgufPair => ({ type: 'u32', value });
  const f32 = (value: number): GgufPair => ({ type: 'f32', value });
  const { directory } = checkpoint;
  const name = directory.replace(/[/\\]+$/, '').replace(/^.*[/\\]/, '');
  const { rope, headDim: H } = config;
  const out = new Map<string, GgufPair>([
    ['general.architecture', { type: 'string', value: 'llama' }],
    ['general.type', { type: 'string', value: 'model' }],
    ['general.name', { type: 'string', value: name || 'model' }],
    ['general.file_type', u32(0)],
    ['llama.block_count', u32(config.numLayers)],
    ['llama.context_length', u32(config.maxPositionEmbeddings)],
    ['llama.embedding_length', u32(config.hiddenSize)],
    ['llama.feed_forward_length', u32(config.intermediateSize)],
    ['llama.attention.head_count', u32(config.numHeads)],
    ['llama.attention.head_count_kv', u32(K)],
    ['llama.attention.layer_norm_rms_epsilon', f32(config.normEps)],
    ['llama.attention.key_length', u32(H)],
    ['llama.attention.value_length', u32(H)],
    ['llama.rope.dimension_count', u32(rope?.rotaryDim ?? H)],
    ['llama.rope.freq_base', f32(rope?.theta ?? 10000)],
    ['llama.vocab_size', u32(config.vocabSize)],
  ]);
  const window = config.attention[0].window;
  if (window !== undefined) out.set('llama.attention.sliding_window', u32(window));
  if (rope?.scaling?.type === 'linear') {
    out.set('llama.rope.scaling.type', { type: 'string', value: 'linear' });
    out.set('llama.rope.scaling.factor', f32(rope.scaling.factor));
  }
  return out;
}
