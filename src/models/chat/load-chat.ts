/** `loadChat`: continues a chat that `save` wrote. */
import { checkOptions } from '../../arguments/options.ts';
import { checkPlace, folderAt, type PlaceLike } from '../../files/place.ts';
import { checkModel } from '../generation/request.ts';
import type { Model } from '../model.ts';
import { Chat } from './chat.ts';
import { readChat } from './chat-file.ts';
import { LOAD_OPTIONS, type LoadChatOptions, withOptions } from './chat-options.ts';

/**
 * Continues a saved chat, with its messages and options, also in another process. The next turn feeds all
 * messages once.
 *
 * @param path the folder that `chat.save` wrote
 * @param options replace the saved ones; a `cache` replaces the saved `maxLength` and `kvDtype`
 * @throws FormatError when there is no saved chat; else as `chat`
 */
export async function loadChat(model: Model, path: PlaceLike, options: LoadChatOptions = {}): Promise<Chat> {
  checkModel('loadChat', model);
  checkPlace('loadChat', 'a path of a saved chat', path);
  checkOptions('loadChat', options, LOAD_OPTIONS);
  const saved = await readChat(await folderAt(path));
  const { maxLength, kvDtype, ...others } = saved.options;
  const memory = options.cache === undefined ? { maxLength, kvDtype } : {};
  return new Chat({
    op: 'loadChat',
    model,
    options: withOptions({ ...others, ...memory }, options),
    messages: saved.messages,
  });
}
