/**
 * One record describes a kernel call: its name, and its fields with their kinds, in the order of the call
 * block (the array of doubles that the kernel reads). The argument type and the packing code follow from it.
 * The kernel files document the same block at each operation.
 *
 * Put a spread last in an argument literal: properties after a spread cost microseconds (V8 of Node 20).
 */
import type { DType } from '../../tensor/dtype.ts';
import { UnsupportedError } from '../../tensor/errors.ts';
import type { Shape } from '../../tensor/shape.ts';
import { addressOf, type Storage } from '../../tensor/storage.ts';

/** Memory that a kernel reads or writes; every Tensor is an operand. */
export interface Operand {
  readonly storage: Storage;
  readonly dtype: DType;
  readonly shape: Shape;
}

/** The argument type of each field kind, and what is written to the block. */
interface Kinds {
  /** The address; the dtype is checked. */
  f32: Operand;
  /** Address 0 when absent. */
  'f32?': Operand | undefined;
  /** Any dtype that has kernels: the address, then the dtype's code. */
  stored: Operand;
  /** The address; the op has checked the dtype. */
  operand: Operand;
  number: number;
  /** 1 or 0. */
  flag: boolean;
  numbers: readonly number[];
  /** The rank, then the dims. */
  shape: Shape;
}

/** How products are computed: see `setMatmulPrecision`. */
export type MatmulPrecision = 'highest' | 'bfloat16' | 'int8';
/** In the order of the GQA_HIGHEST … enum of kernels/gqa.h. */
export const MATMUL_PRECISIONS: readonly ['highest', 'bfloat16', 'int8'] = ['highest', 'bfloat16', 'int8'];

/** A list of names stands for one of them, written as its index (an enum in the kernel). */
type Kind = keyof Kinds | readonly string[];

/**
 * A call described by its fields alone. When there is a field `op`, errors name its value instead of the
 * call.
 */
export interface FieldCall {
  /** The name in kernels/gqa.h, in camelCase. */
  readonly name: string;
  readonly fields: Readonly<Record<string, Kind>>;
}

/** A call packed by hand: one with a variable number of parts, or with its own checks. */
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

/** The arguments of a call. */
export type ArgumentsOf<C> =
  C extends PackedCall<infer A> ? A : C extends { readonly fields: infer F } ? Fields<F> : never;

/** The receiver of packed arguments. */
export interface CallHost {
  /** The backend's name, for errors. */
  readonly name: string;
  /** The call block with room for `length` doubles. Request it for each call: WASM memory may have moved. */
  block(length: number): Float64Array;
}

/** The function that packs a call's arguments. */
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

/** The number of a precision in a block. */
export function precisionCode(precision: MatmulPrecision): number {
  return MATMUL_PRECISIONS.indexOf(precision);
}

/** The address of an operand, 0 for none. */
export function at(x: Operand | undefined): number {
  return x ? addressOf(x.storage) : 0;
}

/** @throws UnsupportedError unless all operands are f32 or absent */
export function checkF32(host: CallHost, op: string, ...operands: readonly (Operand | undefined)[]): void {
  for (const x of operands) if (x && x.dtype !== 'f32') throw new UnsupportedError(op, x.dtype, host.name);
}

/** @throws UnsupportedError for a dtype without kernels */
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
  q2_k: 15,
  q3_k: 16,
  iq4_xs: 17,
  iq4_nl: 18,
  mxfp4: 19,
};
