/** The chat templates in files beside the weights, as transformers writes them. */
import { readSmallText } from '../files/folder.ts';
import type { TokenizerExtras } from '../text/tokenizer.ts';
import type { Checkpoint } from './checkpoint.ts';

/** The folder of the named templates. */
export const TEMPLATE_FOLDER = 'additional_chat_templates';

/** More than any template has. */
const MAX_TEMPLATE_BYTES = 1 << 24;

/**
 * Reads `chat_template.jinja` and `additional_chat_templates/NAME.jinja`, the latter by name.
 * @throws FormatError for one that is no regular file or too large
 */
export async function readChatTemplates(
  checkpoint: Checkpoint,
): Promise<Pick<TokenizerExtras, 'chatTemplate' | 'additionalChatTemplates'>> {
  const folder = checkpoint.folder.folder(TEMPLATE_FOLDER);
  const additionalChatTemplates = new Map<string, string>();
  for (const { name } of await folder.list()) {
    if (!name.endsWith('.jinja')) continue;
    const text = await readSmallText(folder, name, MAX_TEMPLATE_BYTES);
    if (text !== undefined) additionalChatTemplates.set(name.slice(0, -'.jinja'.length), text);
  }
  return { chatTemplate: await checkpoint.readText('chat_template.jinja'), additionalChatTemplates };
}
