/** Of the part Cache: weights, cache and activations in one sum, and the speed on a device. */
import { listDevices, type MemoryOptions, type ModelShape, planMemory, planSpeed } from 'gqa/plan';
import { choiceParam } from '../address.ts';
import { bytes, count } from '../format.ts';
import { facts } from '../state.ts';
import { bound, Menu } from '../ui.tsx';

const WEIGHTS = ['', 'f32', 'bf16', 'q8_0', 'q6_k', 'q4_k', 'q4_0'] as const;
const DEVICES = listDevices();

/** A storage type; empty for what the model's files hold, or bf16 for a known model. */
const weights = choiceParam('weights', WEIGHTS, '');
const deviceId = choiceParam(
  'device',
  DEVICES.map(({ id }) => `${id}`),
  'rtx-4090',
);

/** Name, value, the same exactly, and what it rests on. */
type Row = readonly [name: string, value: string, exactly: string, basis: string];

/** @param isOwn whether the model is the page's, whose files are known */
export function Memory(props: { model: ModelShape; isOwn: boolean; options: MemoryOptions }) {
  const { model, isOwn, options } = props;
  const { rows, problem } = planned(model, isOwn, options);
  return (
    <>
      <h3>Memory and speed</h3>
      <div class="row">
        <Menu label="Weights" {...bound(weights)}>
          {WEIGHTS.map((type) => (
            <option key={type} value={type}>
              {type || (isOwn ? 'as in its files' : 'as published (bf16)')}
            </option>
          ))}
        </Menu>
        <Menu label="Device" {...bound(deviceId)}>
          {DEVICES.map(({ id, name }) => (
            <option key={id} value={id}>
              {name}
            </option>
          ))}
        </Menu>
      </div>
      {problem !== undefined && <p class="problem">{problem}</p>}
      {rows.length > 0 && (
        <table class="sum" aria-label="Memory and speed">
          <tbody>
            {rows.map(([name, value, exactly, basis]) => (
              <tr key={name}>
                <th scope="row">{name}</th>
                <td>
                  <b>{value}</b>
                  <small>{exactly}</small>
                </td>
                <td>{basis}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      <p class="note">
        With the model's own attention. The speed is an upper bound: that of the device's memory and
        arithmetic at their peaks.
      </p>
    </>
  );
}

function planned(
  model: ModelShape,
  isOwn: boolean,
  cache: MemoryOptions,
): { readonly rows: readonly Row[]; readonly problem?: string } {
  const device = DEVICES.find(({ id }) => id === deviceId.value) as (typeof DEVICES)[number];
  const options = { ...cache, weights: weights.value || (isOwn ? facts.value?.weights : undefined) };
  try {
    const memory = planMemory(model, options);
    const { decode, prefill } = planSpeed(model, { ...options, device });
    const sized = (name: string, value: number, basis: string): Row => [
      name,
      bytes(value),
      `${count(value)} bytes`,
      basis,
    ];
    const timed = (name: string, perSecond: number, basis: string): Row => [
      name,
      `${Number(perSecond.toPrecision(3)).toLocaleString('en')} tokens/s`,
      '',
      basis,
    ];
    const { contextLength, batchSize, totalBytes } = memory.kvCache;
    const texts = batchSize === 1 ? 'one text' : `${count(batchSize)} texts`;
    return {
      rows: [
        sized('Weights', memory.weights.bytes, memory.weights.basis),
        sized('KV cache', totalBytes, `${texts} of ${count(contextLength)} tokens`),
        sized('Activations', memory.activations.bytes, memory.activations.basis),
        sized('All', memory.totalBytes, 'weights, cache and activations; not the program'),
        timed('Decode', decode.tokensPerSecond, decode.basis),
        ...(prefill ? [timed('Prompt', prefill.tokensPerSecond, prefill.basis)] : []),
      ],
    };
  } catch (error) {
    return { rows: [], problem: (error as Error).message };
  }
}
