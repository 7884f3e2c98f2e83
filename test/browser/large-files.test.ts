/**
 * Files of 2.5 and 5 GB in a tab. Only with GQA_LARGE_FILES=1: they need 8 GB of memory and some minutes. The
 * files are sparse: a header, and weights that are zero.
 */
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { openSite, type Site, tokensOf } from './site.ts';

const isWanted = process.env.GQA_LARGE_FILES === '1';
if (!isWanted) console.warn('skipping files of 2.5 and 5 GB in a browser: GQA_LARGE_FILES=1 runs them');
const folder = mkdtempSync(join(tmpdir(), 'gqa-large-'));
const opened = isWanted ? await openSite('large files in a browser', { '/large/': folder }) : undefined;
const site = opened as Site;
afterAll(async () => {
  await opened?.close();
  rmSync(folder, { recursive: true, force: true });
});

/** A Llama of f32 zeros, with wide layers of 1.22 GB each. @returns the path of its folder on the server */
function makeModel(numLayers: number): string {
  const [hidden, intermediate, vocab, heads] = [1024, 99_000, 64, 8];
  const shapes: [string, number[]][] = [
    ['model.embed_tokens.weight', [vocab, hidden]],
    ['model.norm.weight', [hidden]],
  ];
  for (let i = 0; i < numLayers; i++) {
    const layer = `model.layers.${i}`;
    for (const name of ['q', 'k', 'v', 'o']) {
      shapes.push([`${layer}.self_attn.${name}_proj.weight`, [hidden, hidden]]);
    }
    shapes.push([`${layer}.mlp.gate_proj.weight`, [intermediate, hidden]]);
    shapes.push([`${layer}.mlp.up_proj.weight`, [intermediate, hidden]]);
    shapes.push([`${layer}.mlp.down_proj.weight`, [hidden, intermediate]]);
    shapes.push([`${layer}.input_layernorm.weight`, [hidden]]);
    shapes.push([`${layer}.post_attention_layernorm.weight`, [hidden]]);
  }
  let end = 0;
  const tensors = shapes.map(([name, shape]) => {
    const start = end;
    end += 4 * shape.reduce((a, b) => a * b);
    return [name, { dtype: 'F32', shape, data_offsets: [start, end] }] as const;
  });
  const header = Buffer.from(JSON.stringify(Object.fromEntries(tensors)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  const file = openSync(join(folder, 'model.safetensors'), 'w');
  writeSync(file, Buffer.concat([length, header]));
  ftruncateSync(file, 8 + header.length + end);
  closeSync(file);
  const config = {
    ...{ model_type: 'llama', architectures: ['LlamaForCausalLM'], tie_word_embeddings: true },
    ...{ hidden_size: hidden, intermediate_size: intermediate, vocab_size: vocab },
    ...{ num_hidden_layers: numLayers, num_attention_heads: heads, num_key_value_heads: heads },
    ...{ rms_norm_eps: 1e-5, max_position_embeddings: 64, hidden_act: 'silu' },
  };
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  return '/large/';
}

describe.skipIf(opened === undefined)('in a tab', () => {
  test('a file of 2.5 GB loads and runs', { timeout: 600_000 }, async () => {
    const { servers } = site;
    const url = servers.isolated.url + makeModel(2);
    await site.withPage(servers.isolated, '/vite/index.html', async (page) => {
      expect(await page.evaluate((from) => engine.load(from), url)).toBe(2);
      expect(await tokensOf(page, [1, 2], 2)).toEqual([0, 0]);
    });
  });

  test('a file of 5 GB gives an error with numbers, and the tab lives', { timeout: 600_000 }, async () => {
    const { servers } = site;
    const url = servers.isolated.url + makeModel(4);
    await site.withPage(servers.isolated, '/vite/index.html', async (page) => {
      const load = page.evaluate((from) => engine.load(from), url);
      await expect(load).rejects.toThrow(/\d+ (bytes|MiB|GiB)/);
      await page.evaluate((from) => engine.load(from), `${servers.isolated.url}/tiny/`);
      expect((await tokensOf(page, [5, 3], 3)).length).toBeGreaterThan(0);
    });
  });
});
