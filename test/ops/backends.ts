/**
 * The backends that tests run on: all that open here, or those that GQA_TEST_BACKENDS names, each of which
 * must open.
 */

import type { Backend, BackendName } from '../../src/backend/backend.ts';
import { open } from '../../src/backend/registry.ts';

const forced = process.env.GQA_TEST_BACKENDS?.split(',') as BackendName[] | undefined;

export const reference: Backend = open('reference');
export const skipped: { readonly name: BackendName; readonly reason: string }[] = [];
export const backends: readonly Backend[] = (forced ?? ['reference', 'native', 'wasm']).flatMap((name) => {
  try {
    return [open(name as BackendName)];
  } catch (error) {
    if (forced) throw error;
    skipped.push({ name: name as BackendName, reason: (error as Error).message });
    return [];
  }
});
