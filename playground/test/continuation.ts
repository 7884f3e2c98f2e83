/** The greedy continuation of a prompt by the page's converted model, and by a checkpoint in Node. */
import type { Page } from 'playwright-core';
import { generate, loadModel } from '../../src/models/index.ts';

/** The worker's functions, in the page. */
declare const engine: {
  continueText(
    which: string,
    text: string,
    sampling: object,
    signal: AbortSignal,
  ): AsyncGenerator<{ text: string }>;
};

const PROMPT = 'The whale ';

/** The converted model's continuation, by the page. */
export const continuedInPage = (page: Page) =>
  page.evaluate(async (prompt) => {
    let made = '';
    const sampling = { maxNewTokens: 40, temperature: 0, seed: 0 };
    const { signal } = new AbortController();
    for await (const piece of engine.continueText('converted', prompt, sampling, signal)) made += piece.text;
    return made;
  }, PROMPT);

/** The same by a checkpoint in Node. */
export async function continuedInNode(path: string): Promise<string> {
  const model = await loadModel(path);
  const tokens: number[] = [];
  for await (const token of generate(model, model.tokenizer!.encode(PROMPT), { maxNewTokens: 40 }))
    tokens.push(token);
  const text = model.tokenizer!.decode(tokens);
  model.dispose();
  return text;
}
