/** The texts on which a conversion is judged: those of this package (demo/held-out), and the user's own. */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { readTrainingText } from './read-text.ts';

/** @param own files or folders of text @returns texts by name */
export async function heldOutTexts(own: readonly string[] = []): Promise<Record<string, string>> {
  const texts: Record<string, string> = {};
  for (const name of ['prose', 'code', 'dialogue']) {
    texts[name] = readFileSync(new URL(`../../demo/held-out/${name}.txt`, import.meta.url), 'utf8');
  }
  for (const path of own) texts[basename(path)] = await readTrainingText(path);
  return texts;
}
