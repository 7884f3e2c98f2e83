/** `loadChat`: continues a chat that `save` wrote. */
import { checkOptions } from '../../arguments/options.ts';
import { loadCache } from '../../cache/load-cache.ts';
import { checkPlace, folderAt, type PlaceLike } from '../../files/place.ts';
import { FormatError } from '../../format/format-error.ts';
import { checkModel } from '../generation/request.ts';
import type { Model } from '../model.ts';
import { Chat } from './chat.ts';
import { CACHE_FILE, readChat } from './chat-file.ts';
import { LOAD_OPTIONS, type LoadChatOptions, withOptions } from './chat-options.ts';

/**
 * Continues a saved chat, with its messages and options, also in another process. With the cache that was saved,
 * the next turn feeds only what is new; otherwise it feeds all messages once.
 *
 * The files do not say which weights the cache is of: load it with the model that filled it. For another model
 * give a `maxLength`; then only messages and options are read.
 *
 * @param path the folder that `chat.save` wrote
 * @throws FormatError when there is no saved chat, or its cache has other tokens; RangeError for a cache of another
 *   model's layers; else as `chat`
 */
export async function loadChat(model: Model, path: PlaceLike, options: LoadChatOptions = {}): Promise<Chat> {
  checkModel('loadChat', model);
  checkPlace('loadChat', 'a path of a saved chat', path);
  checkOptions('loadChat', options, LOAD_OPTIONS);
  const folder = await folderAt(path);
  const saved = await readChat(folder);
  const { messages, tokens } = saved;
  const { maxLength, kvDtype, ...others } = saved.options;
  const memory = options.cache === undefined ? { maxLength, kvDtype } : {};
  const parts = {
    op: 'loadChat',
    model,
    options: withOptions({ ...others, ...memory }, options),
    messages,
  };
  const ownMemory = options.cache ?? options.maxLength ?? options.kvDtype;
  if (tokens === undefined || ownMemory !== undefined) return new Chat(parts);
  const cache = await loadCache({ folder, file: CACHE_FILE }, model);
  try {
    if (cache.batchSize !== 1 || cache.lengths[0] !== tokens.length) {
      const got = `${cache.batchSize} rows, the first of ${cache.lengths[0]} tokens`;
      throw new FormatError(
        folder.nameOf(CACHE_FILE),
        undefined,
        `expected a cache of 1 row of ${tokens.length} tokens, got ${got}`,
      );
    }
    return new Chat({ ...parts, held: { cache, tokens } });
  } catch (error) {
    cache.dispose();
    throw error;
  }
}
