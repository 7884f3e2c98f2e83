/** Text that a model makes: the continuation of a prompt, with the likeliest next tokens, and chat. */
import { scope, softmax, tensor, topK } from 'gqa';
import { type Chat, chat, generate, type LogitsProcessor, type Model, StreamingDecoder } from 'gqa/models';
import { beforeChange, modelOf, theOpened, theTokenizer, type Which } from './models.ts';

/** How the next token is chosen. */
export interface Sampling {
  readonly maxNewTokens: number;
  readonly temperature: number;
  readonly seed: number;
}

/** A piece of text, and what the model gave for its last token. */
export interface Piece {
  readonly text: string;
  /** Its probability. */
  readonly probability: number;
  /** The likeliest tokens there, likeliest first. */
  readonly top: readonly { readonly text: string; readonly probability: number }[];
}

const TOP = 5;

/** Continues a prompt token by token. */
export async function* continueText(
  which: Which,
  prompt: string,
  { maxNewTokens, temperature, seed }: Sampling,
  signal: AbortSignal,
): AsyncGenerator<Piece, void, undefined> {
  const model = modelOf(which);
  const tokenizer = theTokenizer();
  const decoder = new StreamingDecoder(tokenizer, { skipSpecialTokens: true });
  /** What the model gave for the tokens that have not come yet. */
  const given: Likeliest[] = [];
  const record: LogitsProcessor = (logits) => {
    given.push(likeliest(logits));
  };
  const options = {
    ...{ maxNewTokens, temperature, seed, signal, logitsProcessors: [record] },
    prefillChunkSize: theOpened().passTokens,
  };
  for await (const token of generate(model, tokenizer.encode(prompt), options)) {
    const { probabilities, ids } = given.shift() as Likeliest;
    yield {
      text: decoder.push(token),
      probability: probabilities[token],
      top: ids.map((id) => ({ text: tokenizer.decode([id]), probability: probabilities[id] })),
    };
  }
  const rest = decoder.flush();
  if (rest !== '') yield { text: rest, probability: 1, top: [] };
}

/** The probability of each token, and the ids of the likeliest, likeliest first. */
interface Likeliest {
  readonly probabilities: Float32Array;
  readonly ids: readonly number[];
}

function likeliest(logits: Float32Array): Likeliest {
  return scope(() => {
    const shares = softmax(tensor(logits));
    const [, ids] = topK(shares, Math.min(TOP, logits.length));
    return { probabilities: Float32Array.from(shares.dataSync()), ids: Array.from(ids.dataSync(), Number) };
  });
}

const chats = new Map<Which, { readonly model: Model; readonly chat: Chat }>();

/** Forgets the conversations, which go on side by side. */
export function resetChats(): void {
  for (const { chat: own } of chats.values()) own.dispose();
  chats.clear();
}
beforeChange(resetChats);

/** Answers a message in the conversation with a model. */
export function ask(
  which: Which,
  message: string,
  { maxNewTokens, temperature, seed }: Sampling,
  signal: AbortSignal,
): AsyncIterable<string> {
  const model = modelOf(which);
  let own = chats.get(which);
  // Training puts another model in place of the converted one.
  if (own?.model !== model) {
    own?.chat.dispose();
    own = { model, chat: chat(model, { maxLength: Math.min(2048, theOpened().facts.context) }) };
    chats.set(which, own);
  }
  const prefillChunkSize = theOpened().passTokens;
  return own.chat.send(message, { maxNewTokens, temperature, seed, signal, prefillChunkSize });
}
