/**
 * What Jinja decides of names before it renders: a name that a block sets, and does not read before, is the block's own from its
 * beginning and undefined until it is set. It matters to what reads it from inside: a loop, a macro.
 *
 * Source: jinja2 3.1.6, idtracking.py (FrameSymbolVisitor, Symbols.branch_update).
 */
import { step } from './limits.ts';
import type { Statement, Target } from './syntax.ts';

/** Of one block with a scope of its own. */
export interface FrameNames {
  /** Read or set in it; what inner scopes read and set is not part of it. */
  readonly mentioned: ReadonlySet<string>;
  /** Undefined at its beginning, unless a block around it mentions them. */
  readonly unset: readonly string[];
}

const known = new WeakMap<readonly Statement[], FrameNames>();

/** @param own names that the block has from its beginning: a loop's target, a macro's parameters */
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

/** A block, or one branch of an `if` in it: what it adds to what stands before it. */
class Part {
  /** How a name begins: as what is around the block has it, or undefined. */
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

/** What a branch is the first to set begins as it is around the block. */
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
