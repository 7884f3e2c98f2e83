/** The syntax tree of a template. */
import type { Value } from './values.ts';

export interface Arguments {
  readonly positional: readonly Expression[];
  readonly keywords: readonly (readonly [string, Expression])[];
  /** `*list` and `**dict`. */
  readonly spread: Expression | undefined;
  readonly keywordSpread: Expression | undefined;
}

export type Expression =
  | FilterExpression
  | Readonly<
      | { kind: 'constant'; value: Value }
      | { kind: 'name'; name: string }
      | { kind: 'list' | 'tuple' | 'concat'; items: readonly Expression[] }
      | { kind: 'dict'; items: readonly (readonly [Expression, Expression])[] }
      | { kind: 'attribute'; object: Expression; name: string }
      | { kind: 'item'; object: Expression; index: Expression }
      | { kind: 'slice'; object: Expression; bounds: readonly (Expression | undefined)[] }
      | { kind: 'call'; callee: Expression; args: Arguments }
      | { kind: 'test'; value: Expression; name: string; args: Arguments }
      | { kind: 'not' | 'negative' | 'positive'; value: Expression }
      | { kind: 'binary'; operator: string; left: Expression; right: Expression }
      | { kind: 'compare'; first: Expression; rest: readonly (readonly [string, Expression])[] }
      | { kind: 'choice'; test: Expression; yes: Expression; no: Expression | undefined }
    >;

/** `value` is undefined for the block of a filter or set statement. */
export interface FilterExpression {
  readonly kind: 'filter';
  readonly value: Expression | undefined;
  readonly name: string;
  readonly args: Arguments;
}

/** An assignment target: a name, a tuple of names, or an attribute of a namespace. */
export type Target = Readonly<
  | { kind: 'name'; name: string }
  | { kind: 'tuple'; items: readonly Target[] }
  | { kind: 'member'; name: string; attribute: string }
>;

/** The names that an assignment sets; an attribute of a namespace is not a name. */
export function namesOf(target: Target): readonly string[] {
  if (target.kind === 'tuple') return target.items.flatMap(namesOf);
  return target.kind === 'name' ? [target.name] : [];
}

/** The common part of macros and call blocks. */
export interface Callee {
  readonly parameters: readonly (readonly [string, Expression | undefined])[];
  readonly body: Block;
  /** Which of `caller`, `kwargs` and `varargs` the body reads. */
  readonly reads: ReadonlySet<string>;
}

export type Block = readonly Statement[];

export type Statement =
  | ForStatement
  | Readonly<
      | { kind: 'data'; text: string }
      | { kind: 'print'; values: readonly Expression[] }
      | { kind: 'if'; branches: readonly (readonly [Expression | undefined, Block])[] }
      | { kind: 'set'; target: Target; value: Expression }
      | { kind: 'set block'; target: Target; filter: FilterExpression | undefined; body: Block }
      | { kind: 'with'; values: readonly (readonly [Target, Expression])[]; body: Block }
      | { kind: 'macro'; name: string; callee: Callee }
      | { kind: 'call block'; call: Expression & { kind: 'call' }; callee: Callee }
      | { kind: 'filter block'; filter: FilterExpression; body: Block }
      | { kind: 'scope'; body: Block }
      | { kind: 'break' | 'continue' }
    >;

export interface ForStatement {
  readonly kind: 'for';
  readonly target: Target;
  readonly iterable: Expression;
  readonly test: Expression | undefined;
  readonly recursive: boolean;
  readonly body: Block;
  readonly otherwise: Block;
}
