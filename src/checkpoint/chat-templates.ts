/** The chat templates that lie as files beside the weights, as transformers writes them. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Checkpoint } from './checkpoint.ts';
import { readSmallFile } from './file-source.ts';

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
  const folder = join(checkpoint.directory, TEMPLATE_FOLDER);
  const additionalChatTemplates = new Map<string, string>();
  for (const file of (await namesIn(folder)).filter((name) => name.endsWith('.jinja')).sort()) {
    const bytes = await readSmallFile(join(folder, file), MAX_TEMPLATE_BYTES);
    if (bytes !== undefined) {
      additionalChatTemplates.set(file.slice(0, -'.jinja'.length), new TextDecoder().decode(bytes));
    }
  }
  return { chatTemplate: await checkpoint.readText('chat_template.jinja'), additionalChatTemplates };
}

async function namesIn(folder: string): Promise<readonly string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return [];
    throw error;
  }
}
