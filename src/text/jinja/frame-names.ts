/**
 * Jinja's scope analysis before rendering: a name that a block sets, and does not read before, is local to
 * the block and undefined until set. This matters to inner scopes that read it: a loop, a macro.
 *
 * Source: jinja2 3.1.6, idtracking.py (FrameSymbolVisitor, Symbols.branch_update).
 */
import { step } from './limits.ts';
import type { Statement, Target } from './syntax.ts';

/** The names of one block with its own scope. */
export interface FrameNames {
  /** Names read or set in it, without inner scopes. */
  readonly mentioned: ReadonlySet<string>;
  /** Names undefined at its beginning, unless an outer block mentions them. */
  readonly unset: readonly string[];
}

const known = new WeakMap<readonly Statement[], FrameNames>();

/** @param own names defined at its beginning: a loop's target, a macro's parameters */
export function frameNames(body: readonly Statement[], own: readonly string[] = []): FrameNames {
  let names = known.get(body);
  if (names === undefined) {
    const part = new Part();
    for (const name of own) part.begins.set(name, 'outer');
    visitAll(body, part);
    const unset = [...part.begins].filter(([, how]) => how === 'unset').map(([name]) => name);
    names = { mentioned: new Set(part.begins.keys()), unset };
    known.set(body, names);
  }
  return names;
}

/** Names that an assignment sets. */
export function targetNames(target: Target): readonly string[] {
  if (target.kind === 'tuple') return target.items.flatMap(targetNames);
  return target.kind === 'name' ? [target.name] : [];
}

/** A block, or one branch of an `if` in it: the names it adds. */
class Part {
  /** The initial value of a name: from the outer block, or undefined. */
  readonly begins = new Map<string, 'outer' | 'unset'>();
  readonly stores = new Set<string>();
  readonly #before: Part | undefined;

  constructor(before?: Part) {
    this.#before = before;
  }

  knows(name: string): boolean {
    return this.begins.has(name) || (this.#before?.knows(name) ?? false);
  }

  hasStored(name: string): boolean {
    return this.stores.has(name) || (this.#before?.hasStored(name) ?? false);
  }
}

function visitAll(body: readonly Statement[], part: Part): void {
  for (const statement of body) visit(statement, part);
}

function visit(statement: Statement, part: Part): void {
  step();
  switch (statement.kind) {
    case 'print':
      read(statement.values, part);
      break;
    case 'for':
      read(statement.iterable, part);
      break;
    case 'set':
      read(statement.value, part);
      store(statement.target, part);
      break;
    case 'set block':
      store(statement.target, part);
      break;
    case 'with':
      for (const [, value] of statement.values) read(value, part);
      break;
    case 'macro':
      store({ kind: 'name', name: statement.name }, part);
      break;
    case 'call block':
      read(statement.call, part);
      break;
    case 'filter block':
      read(statement.filter, part);
      break;
    case 'if':
      for (const [test, body] of statement.branches) {
        read(test, part);
        visitBranch(body, part);
      }
  }
}

/** A name first set in a branch starts with its value in the outer block. */
function visitBranch(body: readonly Statement[], part: Part): void {
  const branch = new Part(part);
  visitAll(body, branch);
  for (const name of branch.begins.keys()) part.begins.set(name, 'outer');
  for (const name of branch.stores) {
    if (!part.hasStored(name)) part.begins.set(name, 'outer');
    part.stores.add(name);
  }
}

function store(target: Target, part: Part): void {
  if (target.kind === 'tuple') for (const item of target.items) store(item, part);
  else if (target.kind === 'member') read({ kind: 'name', name: target.name }, part);
  else {
    part.stores.add(target.name);
    if (!part.knows(target.name)) part.begins.set(target.name, 'unset');
  }
}

/** Every name in an expression, or in several. */
function read(node: unknown, part: Part): void {
  if (typeof node !== 'object' || node === null) return;
  step();
  const { kind, name } = node as { kind?: string; name?: string };
  if (kind === 'constant') return;
  if (kind === 'name' && name !== undefined && !part.knows(name)) part.begins.set(name, 'outer');
  for (const inner of Object.values(node)) read(inner, part);
}
