/** What the page shows, as signals. Those of the reader's choices are in the address. */
import { computed, signal } from '@preact/signals';
import { choiceParam, textParam, wholeParam } from './address.ts';
import type { ConvertedFacts, ModelFacts } from './worker/models.ts';

export const METHODS = ['mean', 'similar'] as const;
export type Method = (typeof METHODS)[number];

/** The reader's choices of the conversion. `0` is the model's own K. */
export const chosenHeads = wholeParam('k', 0, 0, 1024);
export const chosenMethod = choiceParam('method', METHODS, 'mean');
export const prompt = textParam('prompt', 'The whale swam round the ship');

/** The opened model. */
export const facts = signal<ModelFacts | undefined>(undefined);
/** The converted one; undefined while there is none. */
export const converted = signal<ConvertedFacts | undefined>(undefined);
/** Steps that the converted model has been trained for. */
export const trainedSteps = signal(0);
/** Rises when the weights of a model have changed: what was computed with them is computed again. */
export const revision = signal(0);

/** Losses on the held-out text, in nats per token. */
export const losses = signal<{ original?: number; converted?: number; uptrained?: number }>({});

/** Work that changes models; the controls that would disturb it are disabled meanwhile. */
export const work = signal<
  { readonly what: string; readonly share?: number; readonly stop?: () => void } | undefined
>({ what: 'Starting' });
/** What went wrong last; undefined when nothing did. */
export const problem = signal<string | undefined>(undefined);

/** The chosen K, one of the model's choices. */
export const heads = computed(() => {
  const choices = facts.value?.heads ?? [];
  return choices.includes(chosenHeads.value) ? chosenHeads.value : (choices[0] ?? 0);
});
export const ownHeads = computed(() => facts.value?.shape.numKeyValueHeads ?? 0);
/** Whether the converted model is not the one that is chosen. */
export const needsConversion = computed(() => {
  const { numKeyValueHeads = ownHeads.value, method = chosenMethod.value } = converted.value ?? {};
  return heads.value !== numKeyValueHeads || (heads.value < ownHeads.value && method !== chosenMethod.value);
});
