/**
 * A kernel call is described once, by a record: its name and its fields in the order of the call block, each with its kind. The type of its
 * arguments and the way they are written for the kernels follow from it; the kernel files document the same block at the operation.
 *
 * Arguments are written out, or with a spread at the end: a literal that goes on after a spread costs microseconds (V8 of Node 20).
 */
import type { DType } from '../../tensor/dtype.ts';
import { UnsupportedError } from '../../tensor/errors.ts';
import type { Shape } from '../../tensor/shape.ts';
import { addressOf, type Storage } from '../../tensor/storage.ts';

/** What a kernel reads or writes; every Tensor is one. */
export interface Operand {
  readonly storage: Storage;
  readonly dtype: DType;
  readonly shape: Shape;
}

/** What arguments are, and what is written for them. */
interface Kinds {
  /** The address; the type is checked. */
  f32: Operand;
  /** Address 0 where it is absent. */
  'f32?': Operand | undefined;
  /** Of any type that has kernels: the address, then the type's code. */
  stored: Operand;
  /** The address of what the op has checked. */
  operand: Operand;
  number: number;
  /** 1 or 0. */
  flag: boolean;
  numbers: readonly number[];
  /** The rank, then the dims. */
  shape: Shape;
}

/** A list of names: one of them, written as its index, which the kernel has as an enum. */
type Kind = keyof Kinds | readonly string[];

/** A call whose block is its fields. Where one is called `op`, errors say its value instead of the name. */
export interface FieldCall {
  /** As in kernels/gqa.h, but there in snake_case. */
  readonly name: string;
  readonly fields: Readonly<Record<string, Kind>>;
}

/** A call that fields do not describe: with parts, or with a rule of its own. It is written by hand. */
export interface PackedCall<Arguments, Name extends string = string> {
  readonly name: Name;
  /** @throws UnsupportedError for a dtype that the kernel does not take */
  readonly pack: (host: CallHost, args: Arguments) => void;
}

export type Call = FieldCall | PackedCall<never>;

type Value<K> = K extends keyof Kinds ? Kinds[K] : K extends readonly (infer T)[] ? T : never;
type Optional<F> = { [K in keyof F]: undefined extends Value<F[K]> ? K : never }[keyof F];
type Fields<F> = { readonly [K in keyof F as Exclude<K, Optional<F>>]: Value<F[K]> } & {
  readonly [K in keyof F as Extract<K, Optional<F>>]?: Value<F[K]>;
};

/** What a call is run with. */
export type ArgumentsOf<C> =
  C extends PackedCall<infer A> ? A : C extends { readonly fields: infer F } ? Fields<F> : never;

/** Where arguments are written. */
export interface CallHost {
  /** The backend's, for errors. */
  readonly name: string;
  /** The call block with room for `length` doubles. Ask anew for each call: memory may have moved. */
  block(length: number): Float64Array;
}

/** How a call's arguments are written. */
export function packerOf(call: Call): (host: CallHost, args: never) => void {
  if ('pack' in call) return call.pack;
  const fields = Object.entries(call.fields).map(([key, kind]): Field => {
    return typeof kind === 'string' ? { key, kind } : { key, kind: 'oneOf', values: kind };
  });
  return (host, args: Readonly<Record<string, unknown>>) => packFields(call.name, fields, host, args);
}

interface Field {
  readonly key: string;
  readonly kind: keyof Kinds | 'oneOf';
  readonly values?: readonly unknown[];
}

function packFields(
  name: string,
  fields: readonly Field[],
  host: CallHost,
  args: Readonly<Record<string, unknown>>,
): void {
  // Two doubles a field; a shape and its strides have at most 6 numbers each.
  const block = host.block(64);
  let i = 0;
  for (const { key, kind, values } of fields) {
    const value = args[key];
    switch (kind) {
      case 'f32':
      case 'f32?':
        if (value && (value as Operand).dtype !== 'f32')
          checkF32(host, String(args.op ?? name), value as Operand);
        block[i++] = at(value as Operand | undefined);
        break;
      case 'stored':
        block[i++] = at(value as Operand);
        block[i++] = codeOf(host, name, (value as Operand).dtype);
        break;
      case 'operand':
        block[i++] = at(value as Operand);
        break;
      case 'oneOf':
        block[i++] = values?.indexOf(value) as number;
        break;
      case 'numbers':
      case 'shape': {
        const list = value as readonly number[];
        if (kind === 'shape') block[i++] = list.length;
        for (let j = 0; j < list.length; j++) block[i++] = list[j];
        break;
      }
      default:
        block[i++] = Number(value);
    }
  }
}

/** The address of an operand, 0 for none. */
export function at(x: Operand | undefined): number {
  return x ? addressOf(x.storage) : 0;
}

/** @throws UnsupportedError unless all operands are f32 or absent */
export function checkF32(host: CallHost, op: string, ...operands: readonly (Operand | undefined)[]): void {
  for (const x of operands) if (x && x.dtype !== 'f32') throw new UnsupportedError(op, x.dtype, host.name);
}

/** @throws UnsupportedError for a type without kernels */
export function codeOf(host: CallHost, op: string, dtype: DType): number {
  const code = DTYPE_CODES[dtype];
  if (code === undefined) throw new UnsupportedError(op, dtype, host.name);
  return code;
}

/** The GQA_F32 … enum of kernels/gqa.h; f64 has no kernels. */
const DTYPE_CODES: Readonly<Partial<Record<DType, number>>> = {
  f32: 0,
  f16: 1,
  bf16: 2,
  i32: 3,
  u32: 4,
  u8: 5,
  bool: 6,
  q8_0: 7,
  q4_0: 8,
  q4_1: 9,
  q5_0: 10,
  q5_1: 11,
  q4_k: 12,
  q5_k: 13,
  q6_k: 14,
};
