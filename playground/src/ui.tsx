/** The elements that all parts use. */
import type { Signal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { useId } from 'preact/hooks';

/** A part of the page: a region with a heading and a sentence about it. */
export function Part(props: { name: string; about: ComponentChildren; children: ComponentChildren }) {
  const id = props.name.toLowerCase();
  return (
    <section class="part" id={id} aria-labelledby={`${id}-name`}>
      <header>
        <h2 id={`${id}-name`} tabIndex={-1}>
          {props.name}
        </h2>
        <p>{props.about}</p>
      </header>
      {props.children}
    </section>
  );
}

/** The value of a control that shows and sets a signal. */
export const bound = <Value,>(signal: Signal<Value>) => ({
  value: signal.value,
  onChange: (value: Value) => {
    signal.value = value;
  },
});

/** A slider over a list of values. */
export function Slider(props: {
  label: string;
  values: readonly number[];
  value: number;
  text: (value: number) => string;
  onChange: (value: number) => void;
  /** Whether to write every value below the slider. */
  hasTicks?: boolean;
  disabled?: boolean;
}) {
  const { label, values, value, text, onChange, hasTicks = false, disabled = false } = props;
  const id = useId();
  const at = Math.max(0, values.indexOf(value));
  return (
    <div class="slider">
      <label for={id}>{label}</label>
      <output for={id}>{text(value)}</output>
      <input
        id={id}
        type="range"
        min={0}
        max={Math.max(1, values.length - 1)}
        value={at}
        disabled={disabled || values.length < 2}
        aria-valuetext={text(value)}
        onInput={({ currentTarget }) => onChange(values[Number(currentTarget.value)] ?? value)}
      />
      {hasTicks && (
        <div class="ticks" aria-hidden="true">
          {values.map((tick) => (
            <span key={tick} class={tick === value ? 'on' : ''}>
              {tick}
            </span>
          ))}
        </div>
      )}
    </div>
  );
}

/** A choice among a few, as buttons side by side. */
export function Choice<Value extends string | number>(props: {
  label: string;
  values: readonly Value[];
  value: Value;
  text?: (value: Value) => string;
  onChange: (value: Value) => void;
  disabled?: boolean;
}) {
  const { label, values, value, text = String, onChange, disabled } = props;
  const name = useId();
  return (
    <fieldset class="choice" disabled={disabled}>
      <legend>{label}</legend>
      <div>
        {values.map((one) => (
          <label key={one} class={one === value ? 'on' : ''}>
            <input type="radio" name={name} checked={one === value} onChange={() => onChange(one)} />
            {text(one)}
          </label>
        ))}
      </div>
    </fieldset>
  );
}

/** A menu. */
export function Menu<Value extends string>(props: {
  label: string;
  value: Value;
  onChange: (value: Value) => void;
  children: ComponentChildren;
}) {
  const id = useId();
  return (
    <div class="menu">
      <label for={id}>{props.label}</label>
      <select
        id={id}
        value={props.value}
        onChange={({ currentTarget }) => props.onChange(currentTarget.value as Value)}
      >
        {props.children}
      </select>
    </div>
  );
}

/** Something that went wrong, in words. */
export function Problem(props: { text: string | undefined }) {
  return (
    <div role="alert" class={props.text === undefined ? 'no problem' : 'problem'}>
      {props.text}
    </div>
  );
}
