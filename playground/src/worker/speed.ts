/** Tokens per second of decoding with different attention, at the sizes of the opened model. */
import type { KeyValueCache } from 'gqa/cache';
import type { Model } from 'gqa/models';
import { createModel, llamaConfig } from 'gqa/train';
import { eventLoopTurn } from './event-loop.ts';
import { modelOf, theOpened } from './models.ts';

/** One measurement. */
export interface Speed {
  readonly attention: 'MHA' | 'GQA' | 'MQA' | 'MLA';
  /** K; undefined for MLA. */
  readonly numKeyValueHeads: number | undefined;
  /** All texts of the batch together. */
  readonly tokensPerSecond: number;
  /** Of the cache that was used, as it reports them. */
  readonly cacheBytes: number;
  readonly batchSize: number;
  readonly contextLength: number;
}

const ROUNDS = 7;
const ROUND_TOKENS = 4;

interface Contestant {
  readonly attention: Speed['attention'];
  readonly numKeyValueHeads: number | undefined;
  readonly model: Model;
  readonly isOwn: boolean;
  cache?: KeyValueCache;
  best: number;
}

/**
 * Decodes with caches that are almost full. A small model's contestants have random weights, which take the
 * same time; of a large model only those that are loaded are measured. The fastest of some rounds counts,
 * since other load only slows.
 */
export async function measureSpeeds(
  numKeyValueHeads: number,
  { rank, ropeDim }: { readonly rank: number; readonly ropeDim: number },
  signal: AbortSignal,
): Promise<readonly Speed[]> {
  const { facts, passTokens } = theOpened();
  const batchSize = facts.isSmall ? 8 : 1;
  const contextLength = Math.min(512, facts.context);
  const contestants = contest(numKeyValueHeads, rank, ropeDim);
  try {
    const start = contextLength - ROUND_TOKENS;
    for (const one of contestants) {
      one.cache = one.model.initCache({ batchSize, maxLength: contextLength });
      const step = Math.max(1, Math.floor(passTokens / batchSize));
      for (let at = 0; at < start; at += step) {
        await eventLoopTurn();
        signal.throwIfAborted();
        const row = new Array<number>(Math.min(step, start - at)).fill(1);
        one.model.forward(new Array(batchSize).fill(row), { cache: one.cache, logits: 'last' }).dispose();
      }
    }
    for (let round = 0; round < ROUNDS; round++) {
      for (const one of contestants) {
        await eventLoopTurn();
        signal.throwIfAborted();
        one.best = Math.max(one.best, decodeRound(one.model, one.cache as KeyValueCache, batchSize, start));
      }
    }
    return contestants.map(({ attention, numKeyValueHeads: own, best, cache }) => ({
      ...{ attention, numKeyValueHeads: own, batchSize, contextLength },
      tokensPerSecond: best,
      cacheBytes: cache?.bytes ?? 0,
    }));
  } finally {
    for (const { cache, model, isOwn } of contestants) {
      cache?.dispose();
      if (!isOwn) model.dispose();
    }
  }
}

function contest(K: number, rank: number, ropeDim: number): Contestant[] {
  const { facts } = theOpened();
  const { numHeads: N } = facts.shape;
  const nameOf = (heads: number): Speed['attention'] => (heads === N ? 'MHA' : heads === 1 ? 'MQA' : 'GQA');
  if (!facts.isSmall) {
    const own = facts.shape.numKeyValueHeads;
    const loaded = own === K ? (['original'] as const) : (['original', 'converted'] as const);
    return loaded.map((which) => {
      const heads = which === 'original' ? own : K;
      return {
        attention: nameOf(heads),
        numKeyValueHeads: heads,
        model: modelOf(which),
        isOwn: true,
        best: 0,
      };
    });
  }
  const { vocabSize = 256, hiddenSize = 64, numLayers, headDim, intermediateSize } = facts.shape;
  const config = (numKeyValueHeads: number) =>
    llamaConfig({
      ...{ vocabSize, hiddenSize, numLayers, headDim, intermediateSize, numKeyValueHeads },
      numHeads: N,
      maxPositionEmbeddings: facts.context,
    });
  const latent = {
    ...config(N),
    architectures: ['DeepseekV2ForCausalLM'],
    model_type: 'deepseek_v2',
    kv_lora_rank: rank,
    qk_rope_head_dim: ropeDim,
    qk_nope_head_dim: headDim,
    v_head_dim: headDim,
    head_dim: ropeDim,
    q_lora_rank: null,
    first_k_dense_replace: numLayers,
    n_routed_experts: null,
  };
  const heads = [...new Set([N, K, 1])];
  return [
    ...heads.map((k) => ({ attention: nameOf(k), numKeyValueHeads: k, model: createModel(config(k)) })),
    { attention: 'MLA' as const, numKeyValueHeads: undefined, model: createModel(latent) },
  ].map((one): Contestant => ({ ...one, isOwn: false, best: 0 }));
}

/** @returns tokens per second */
function decodeRound(model: Model, cache: KeyValueCache, batchSize: number, start: number): number {
  for (let row = 0; row < batchSize; row++) cache.truncate(row, start);
  const begin = performance.now();
  for (let token = 0; token < ROUND_TOKENS; token++) {
    const logits = model.forward(new Array(batchSize).fill([1]), { cache, logits: 'last' });
    logits.dataSync();
    logits.dispose();
  }
  return (batchSize * ROUND_TOKENS) / ((performance.now() - begin) / 1000);
}
