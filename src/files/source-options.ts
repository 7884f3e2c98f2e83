/** The options of all functions that fetch a model from an address, and their kinds. */
import { aSignal, describe } from '../arguments/kinds.ts';
import type { OptionKinds } from '../arguments/options.ts';

/** How a model is fetched from an address. */
export interface FetchModelOptions {
  /**
   * Access token, sent to the host of the address and to no other host. Default: the environment's `HF_TOKEN`
   * for addresses of the hub.
   */
  readonly token?: string;
  /** Ends the loading; it then throws the signal's reason. */
  readonly signal?: AbortSignal;
}

export const FETCH_OPTIONS: OptionKinds<FetchModelOptions> = { token: aToken, signal: aSignal };

/** @throws TypeError unless `value` can be a token; the message does not show it */
export function aToken(op: string, name: string, value: string): void {
  if (typeof value === 'string' && /^[\x21-\x7e]+$/.test(value)) return;
  const got = typeof value === 'string' ? 'one with other characters, or none' : describe(value);
  throw new TypeError(`${op}: expected ${name} to be a text of visible ASCII characters, got ${got}`);
}
