/** The tiny models of the golden files. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { GOLDEN } from '../models/golden.ts';

/** Their names below `GOLDEN`: `tiny-llama/mha`, `tiny-mistral/window.gguf`. */
export function tinyCheckpoints(): string[] {
  const families = readdirSync(GOLDEN).filter((name) => name.startsWith('tiny-'));
  return families.flatMap((family) =>
    readdirSync(join(GOLDEN, family))
      .filter((name) => name.endsWith('.gguf') || existsSync(join(GOLDEN, family, name, 'config.json')))
      .map((name) => `${family}/${name}`),
  );
}
