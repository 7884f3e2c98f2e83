/** A cache in a line, as `console.log` prints it. */
import { grouped } from '../arguments/inspect.ts';
import type { KeyValueCache } from './cache.ts';

/** `StaticCache lengths [6, 1] of 9, 2 layers, f32, 288 bytes` */
export function cacheText(name: string, cache: KeyValueCache, isDisposed: boolean): string {
  if (isDisposed) return `${name} (disposed)`;
  const { lengths, maxLength, numLayers, dtype, valueDtype, bytes } = cache;
  const stored = dtype === valueDtype ? dtype : `${dtype} keys and ${valueDtype} values`;
  return `${name} lengths [${lengths.join(', ')}] of ${maxLength}, ${numLayers} layers, ${stored}, ${grouped(bytes)} bytes`;
}
