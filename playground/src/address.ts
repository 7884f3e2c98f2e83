/** Signals whose values are in the address, so that a link shows what its sender saw. */
import { effect, type Signal, signal } from '@preact/signals';

const given = new URLSearchParams(location.hash.slice(1));
const kept: { readonly name: string; readonly text: () => string; readonly initial: string }[] = [];

/** @param initial is left out of the address */
export function textParam(name: string, initial: string): Signal<string> {
  const value = signal(given.get(name) ?? initial);
  kept.push({ name, text: () => value.value, initial });
  return value;
}

/** A number from `least` to `most`. */
export function numberParam(name: string, initial: number, least: number, most: number): Signal<number> {
  const stated = Number(given.get(name) || Number.NaN);
  return keptNumber(name, initial, stated >= least && stated <= most ? stated : initial);
}

/** A whole number from `least` to `most`. */
export function wholeParam(name: string, initial: number, least: number, most: number): Signal<number> {
  const stated = Number(given.get(name) || Number.NaN);
  const isFit = Number.isInteger(stated) && stated >= least && stated <= most;
  return keptNumber(name, initial, isFit ? stated : initial);
}

function keptNumber(name: string, initial: number, first: number): Signal<number> {
  const value = signal(first);
  kept.push({ name, text: () => String(value.value), initial: String(initial) });
  return value;
}

/** One of some texts. */
export function choiceParam<Choice extends string>(
  name: string,
  choices: readonly Choice[],
  initial: Choice,
): Signal<Choice> {
  const value = signal(choices.find((choice) => choice === given.get(name)) ?? initial);
  kept.push({ name, text: () => value.value, initial });
  return value;
}

/** Keeps the address up to date from now on. Another address in the same tab is a page of its own. */
export function keepAddress(): void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  effect(() => {
    const stated = kept.filter(({ text, initial }) => text() !== initial);
    const hash = new URLSearchParams(stated.map(({ name, text }) => [name, text()])).toString();
    clearTimeout(timer);
    // Browsers limit how often the address may change.
    timer = setTimeout(() => {
      const { pathname, search } = location;
      history.replaceState(undefined, '', `${pathname}${search}${hash && `#${hash}`}`);
    }, 200);
  });
  addEventListener('hashchange', () => location.reload());
}
