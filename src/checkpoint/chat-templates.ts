/** The chat templates that lie as files beside the weights, as transformers writes them. */
import { readSmallText } from '../files/folder.ts';
import type { Checkpoint } from './checkpoint.ts';

/** The folder of the templates that have names. */
export const TEMPLATE_FOLDER = 'additional_chat_templates';

/** Far more than a template may have. */
const MAX_TEMPLATE_BYTES = 1 << 24;

export interface ChatTemplateFiles {
  /** `chat_template.jinja` */
  readonly chatTemplate: string | undefined;
  /** `additional_chat_templates/NAME.jinja` by name. */
  readonly additionalChatTemplates: ReadonlyMap<string, string>;
}

/** @throws FormatError for a file that is no regular one, or too large */
export async function readChatTemplates(checkpoint: Checkpoint): Promise<ChatTemplateFiles> {
  const folder = checkpoint.folder.folder(TEMPLATE_FOLDER);
  const additionalChatTemplates = new Map<string, string>();
  for (const { name } of await folder.list()) {
    if (!name.endsWith('.jinja')) continue;
    const text = await readSmallText(folder, name, MAX_TEMPLATE_BYTES);
    if (text !== undefined) additionalChatTemplates.set(name.slice(0, -'.jinja'.length), text);
  }
  return { chatTemplate: await checkpoint.readText('chat_template.jinja'), additionalChatTemplates };
}
