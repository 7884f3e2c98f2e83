/**
 * Load a decoder-only language model, generate tokens or text with it, and chat.
 * @module gqa/models
 */
export { characterTokenizer } from '../text/character-tokenizer.ts';
export { TemplateFloat } from '../text/jinja/from-javascript.ts';
export { TemplateError } from '../text/jinja/limits.ts';
export { StreamingDecoder } from '../text/streaming-decoder.ts';
export type {
  ChatMessage,
  ChatTemplateOptions,
  ChatTemplates,
  DecodeOptions,
  EncodeOptions,
  Tokenizer,
} from '../text/tokenizer.ts';
export type { Activation, Xielu } from './activation.ts';
export { type Chat, type ChatTurn, chat } from './chat/chat.ts';
export type { ChatOptions, LoadChatOptions, SaveChatOptions, SendOptions } from './chat/chat-options.ts';
export { type GenerateTextOptions, generateText } from './chat/generate-text.ts';
export { loadChat } from './chat/load-chat.ts';
export type { DecoderOutput } from './decoder.ts';
export type {
  DecoderConfig,
  LatentAttentionConfig,
  LayerAttention,
  LayerInputs,
  QueryGrowth,
  QueryKeyNorm,
} from './decoder-config.ts';
export { type EmbedOptions, embed } from './embed.ts';
export type { ExpertActivation, ExpertsConfig, RoutingConfig } from './experts-config.ts';
export { type GenerateOptions, generate } from './generation/generate.ts';
export { type GenerateBatchOptions, generateBatch } from './generation/generate-batch.ts';
export type { LogitsProcessor, SamplingOptions } from './generation/logits-processors.ts';
export type { TokenLogprob } from './generation/logprobs.ts';
export type { FinishReason, GenerateResult } from './generation/result.ts';
export type { InitCacheOptions } from './init-cache.ts';
export { type LoadModelOptions, loadModel } from './load-model.ts';
export type { ForwardOptions, ForwardOutput, ForwardOutputOptions, Model } from './model.ts';
export type { RopeConfig, RopeScaling } from './rope-table.ts';
export { type SaveModelOptions, saveModel } from './save-model.ts';
export type { Tokens } from './token-batch.ts';
