/**
 * The names of a block with its own scope. Jinja analyses scopes before rendering: a name that a block sets,
 * and does not read before, is local to the block and undefined until set. This matters to inner scopes that
 * read it: a loop, a macro.
 *
 * Source: jinja2 3.1.6, idtracking.py (FrameSymbolVisitor, Symbols.branch_update).
 */
import { step } from './limits.ts';
import type { Block, Statement, Target } from './syntax.ts';
import { either, Undefined, type Value } from './values.ts';

export class Scope {
  readonly names: Map<string, Value> = new Map();
  readonly outer: Scope | undefined;
  readonly #begins: Begins;

  /** @param own names defined at its beginning: a loop's target, a macro's parameters */
  constructor(outer: Scope | undefined, body: Block, own: readonly string[] = []) {
    this.outer = outer;
    this.#begins = namesIn(body, own);
    for (const [name, how] of this.#begins)
      if (how === 'unset' && !outer?.mentions(name)) this.names.set(name, undefinedName(name));
  }

  /** Whether this block or an outer one reads or sets the name. */
  mentions(name: string): boolean {
    return this.#begins.has(name) || (this.outer?.mentions(name) ?? false);
  }

  find(name: string): Value | undefined {
    return either(this.names.get(name), () => this.outer?.find(name));
  }
}

export function undefinedName(name: string): Undefined {
  return new Undefined(`'${name}' is undefined`);
}

/** Where a name has its value from at the beginning of a block: the outer block, or it is undefined. */
type Begins = Map<string, 'outer' | 'unset'>;

const known = new WeakMap<Block, Begins>();

/** The names that a block reads or sets, without inner scopes. */
function namesIn(body: Block, own: readonly string[]): Begins {
  let begins = known.get(body);
  if (begins === undefined) {
    const part = new Part();
    for (const name of own) part.begins.set(name, 'outer');
    visitAll(body, part);
    begins = part.begins;
    known.set(body, begins);
  }
  return begins;
}

/** A block, or one branch of an `if` in it: the names it adds. */
class Part {
  readonly begins: Begins = new Map();
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

function visitAll(body: Block, part: Part): void {
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
function visitBranch(body: Block, part: Part): void {
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
