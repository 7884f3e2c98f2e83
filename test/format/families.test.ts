import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { familyFacts } from '../../src/format/families.ts';

describe('familyFacts', () => {
  test('a name has one row, its own before one for names that begin so, the longest of these first', () => {
    expect(familyFacts('qwen2')).toEqual({ slides: 'switched', tokenizerClass: 'Qwen2Tokenizer' });
    expect(familyFacts('qwen2_5_vl_text')).toEqual({ slides: 'switched' });
    expect(familyFacts('gemma4_audio').fullHeadDim).toBe(512);
    expect(familyFacts('gemma-embedding')).toEqual({ gguf: { tokensInMergeOrder: true } });
    expect(familyFacts('rwkv7').otherCache).toBe(true);
  });

  test('a name that is nowhere has no facts', () => {
    for (const name of ['', 'olmo', 'constructor', 'toString']) expect(familyFacts(name)).toEqual({});
  });

  test('no name is in two rows', () => {
    const source = readFileSync(new URL('../../src/format/families.ts', import.meta.url), 'utf8');
    const [, rows] = /const ROWS[^{]*\{\n([\s\S]*?)\n\};\n/.exec(source)!;
    const names = [...rows.matchAll(/^ {2}(?:'([^']+)'|(\w+))[:,]/gm)].flatMap((m) =>
      (m[1] ?? m[2]).split(' '),
    );
    expect(names.length).toBeGreaterThan(100);
    expect(new Set(names).size).toBe(names.length);
  });
});
