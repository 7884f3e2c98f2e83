/**
 * The post-processor of a tokenizer.json, which adds ids before and after a text. Source: Rust `tokenizers`,
 * src/processors.
 */
import { type Components, flatten, makeComponent, refuse } from './steps.ts';
import { configTokenText, type Step, type TokenizerConfigJson } from './tokenizer-json.ts';

/** Ids before and after a text. */
export interface Surroundings {
  readonly before: readonly number[];
  readonly after: readonly number[];
}

/** @throws RangeError for an unknown post-processor or option */
export function surroundingsOf(step: Step | null): Surroundings {
  return flatten(step, 'processors')
    .map((each) => makeComponent('post-processor', processors, each))
    .reduce(
      (inner, outer) => ({
        before: [...outer.before, ...inner.before],
        after: [...inner.after, ...outer.after],
      }),
      { before: [], after: [] },
    );
}

interface Template {
  readonly single: readonly { SpecialToken?: { id: string }; Sequence?: { id: string } }[];
  readonly special_tokens: Readonly<Record<string, { ids: readonly number[] }>>;
}

const processors: Components<Surroundings> = {
  ByteLevel: ['add_prefix_space trim_offsets use_regex', () => ({ before: [], after: [] })],
  BertProcessing: ['sep cls trim_offsets add_prefix_space', clsAndSep],
  RobertaProcessing: ['sep cls trim_offsets add_prefix_space', clsAndSep],
  TemplateProcessing: ['single pair special_tokens', template],
};

function clsAndSep(step: Step): Surroundings {
  const [before, after] = [step.cls, step.sep].map((token) => {
    const id = Array.isArray(token) ? token[1] : undefined;
    return Number.isInteger(id)
      ? [id as number]
      : refuse(`${step.type}'s cls and sep to be [token, id]`, token);
  });
  return { before, after };
}

function template(step: Step): Surroundings {
  const { single, special_tokens: tokens = {} } = step as Step & Template;
  if (!Array.isArray(single) || single.filter((piece) => piece?.Sequence?.id === 'A').length !== 1)
    refuse("TemplateProcessing's single to be a list with the sequence A once", single);
  const text = single.findIndex((piece: Template['single'][number]) => piece?.Sequence !== undefined);
  const idsOf = (piece: Template['single'][number]): readonly number[] => {
    const name = piece?.SpecialToken?.id;
    const ids = name !== undefined && Object.hasOwn(tokens, name) ? tokens[name].ids : undefined;
    return Array.isArray(ids) && ids.every(Number.isInteger)
      ? ids
      : refuse("TemplateProcessing's single to hold the sequence A and tokens of special_tokens", piece);
  };
  return { before: single.slice(0, text).flatMap(idsOf), after: single.slice(text + 1).flatMap(idsOf) };
}

/**
 * `add_bos_token` and `add_eos_token`, when given, decide whether bos and eos are added; other tokens of the
 * post-processor are kept.
 */
export function withBosAndEos(
  own: Surroundings,
  config: TokenizerConfigJson,
  idOf: (token: string) => number | undefined,
): Surroundings {
  const idsOf = (token: string | undefined): number[] => {
    const id = token === undefined ? undefined : idOf(token);
    return id === undefined ? [] : [id];
  };
  const change = (
    ids: readonly number[],
    add: unknown,
    [token]: number[],
    first: boolean,
  ): readonly number[] => {
    if (typeof add !== 'boolean' || token === undefined) return ids;
    const others = ids.filter((id) => id !== token);
    if (!add) return others;
    return ids.includes(token) ? ids : first ? [token, ...others] : [...others, token];
  };
  return {
    before: change(own.before, config.add_bos_token, idsOf(configTokenText(config.bos_token)), true),
    after: change(own.after, config.add_eos_token, idsOf(configTokenText(config.eos_token)), false),
  };
}
