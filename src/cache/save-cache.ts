/** Writes a cache to a file, such as the cache of a prompt that many answers begin with. */
import { describe } from '../arguments/kinds.ts';
import { checkPlace, outputPlace, type PlaceLike } from '../files/place.ts';
import { encodeSafetensorsHeader } from '../format/safetensors.ts';
import { eventLoopTurn } from '../tensor/event-loop.ts';
import type { KeyValueCache } from './cache.ts';
import { CACHE_FORMAT, chunksOf, storedTensors } from './cache-file.ts';
import { snapshotOf } from './snapshot.ts';

/**
 * Writes a cache to a safetensors file, atomically: its tokens as stored, not its unused memory. A cache that
 * `loadCache` reads from it continues with the same bits. Reserved tokens and holds are not included. The
 * cache must not change until the promise resolves.
 * @param cache a StaticCache, WindowCache or PagedCache
 * @throws TypeError for another kind of cache; Error for a disposed one, or when it changes meanwhile: no file
 *   is written then, and an older one stays as it was
 * @example await saveCache('prompt.safetensors', cache)
 */
export async function saveCache(place: PlaceLike, cache: KeyValueCache): Promise<void> {
  checkPlace('saveCache', 'a path first', place);
  const snapshot = typeof cache === 'object' && cache !== null ? snapshotOf(cache) : undefined;
  if (snapshot === undefined) {
    throw new TypeError(
      `saveCache: expected a StaticCache, WindowCache or PagedCache second, got ${describe(cache)}`,
    );
  }
  const tensors = storedTensors(snapshot);
  const state = JSON.stringify(snapshot.state);
  const header = encodeSafetensorsHeader(tensors, { format: CACHE_FORMAT, cache: state });
  const placeOf = new Map(header.tensors.map(({ name, byteOffset }) => [name, byteOffset]));
  const { folder, file } = await outputPlace(place);
  await folder.write(file, async (out) => {
    await out.write(header.bytes, 0);
    for (const tensor of tensors) {
      let at = placeOf.get(tensor.name) as number;
      for (const [slot, count] of chunksOf(tensor)) {
        const bytes = tensor.store.read(tensor.side.name, slot, count);
        await out.write(bytes, at);
        at += bytes.byteLength;
        await eventLoopTurn(); // a synchronous write gives none
      }
    }
    if (JSON.stringify(snapshotOf(cache)?.state) !== state) {
      throw new Error('saveCache: expected a cache that does not change meanwhile, got more or fewer tokens');
    }
  });
}
