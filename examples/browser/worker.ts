// The worker: it holds the model and answers the page.
import { getBackend } from 'gqa';
import type { ModelSource } from 'gqa/checkpoint';
import { type Chat, chat, loadModel, type Model } from 'gqa/models';
import { expose } from 'gqa/worker';

let model: Model | undefined;
let talk: Chat | undefined;

const functions = {
  /** Loads a model and returns what it runs on. */
  async load(source: ModelSource, onProgress: (done: number, total: number) => void): Promise<string> {
    talk?.dispose();
    model?.dispose(); // a page's memory may not hold two models
    [model, talk] = [undefined, undefined];
    model = await loadModel(source, { onProgress });
    talk = chat(model, { maxNewTokens: 200 });
    return getBackend().description;
  },

  /** Yields the answer, piece by piece, until `signal` stops it. */
  ask(question: string, signal: AbortSignal): AsyncIterable<string> {
    if (talk === undefined) throw new Error('ask: expected a loaded model, got none');
    return talk.send(question, { signal });
  },
};

export type Functions = typeof functions;
expose(functions);
