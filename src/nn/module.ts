/** `Module`: the base of all modules, with their variables by path. */
import { grouped, printAsText } from '../arguments/inspect.ts';
import { aBoolean, aNumber, checkObject, numbers } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { adopt } from '../tensor/scope.ts';
import { shapeText } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';
import { Param, Variable } from './variable.ts';

/** Options of `setView`; each module uses those it has. */
export interface View {
  /** True: no dropout. */
  readonly deterministic?: boolean;
  /** True: attention appends to its cache. */
  readonly decode?: boolean;
  /** With `maxLength`: allocate an empty cache for this many sequences (or these batch dimensions). */
  readonly batchSize?: number | readonly number[];
  /** Tokens a sequence can hold. */
  readonly maxLength?: number;
}

const VIEW = optionKinds<View>({
  deterministic: aBoolean,
  decode: aBoolean,
  batchSize: numbers,
  maxLength: aNumber,
});

/**
 * The base of all modules: an object whose properties are variables, other modules, and arrays of them. The
 * path of a variable is Flax's: property names in snake_case joined by dots (`query.kernel`,
 * `query_ln.scale`, `layers.0.kernel`).
 * @example
 * class Mlp extends Module {
 *   readonly up = new Linear({ inFeatures: 8, outFeatures: 32, rngs: new Rngs(0) });
 *   readonly down = new Linear({ inFeatures: 32, outFeatures: 8, rngs: new Rngs(1) });
 *   forward(input: Tensor) {
 *     return this.down.forward(gelu(this.up.forward(input)));
 *   }
 * }
 * [...new Mlp().parameters().keys()]; // up.kernel, up.bias, down.kernel, down.bias
 */
export abstract class Module {
  #sown: Record<string, Tensor[]> = {};

  /** All variables by path, in the order of the properties. */
  variables(): Map<string, Variable> {
    const found = new Map<string, Variable>();
    collect(this, '', (path, value) => {
      if (value instanceof Variable) found.set(path, value);
    });
    return found;
  }

  /** The parameters by path. */
  parameters(): Map<string, Param> {
    return new Map([...this.variables()].filter(([, variable]) => variable instanceof Param));
  }

  /**
   * The parameters' tensors by path: what `writeSafetensors` takes. They are the live tensors, not copies.
   */
  getState(): Record<string, Tensor> {
    return Object.fromEntries([...this.parameters()].map(([path, { value }]) => [path, value]));
  }

  /**
   * Copies tensors into the parameters of the same paths.
   * @throws RangeError when a path is missing or unknown, or shapes differ; nothing is copied then.
   */
  setState(state: Readonly<Record<string, Tensor>>): void {
    checkObject('setState', 'tensors by path', state);
    const parameters = this.parameters();
    const missing = [...parameters.keys()].filter((path) => !Object.hasOwn(state, path));
    const unknown = Object.keys(state).filter((path) => !parameters.has(path));
    if (missing.length > 0 || unknown.length > 0) {
      const parts = [
        missing.length > 0 ? `nothing for ${missing.join(', ')}` : '',
        unknown.length > 0 ? `no parameter ${unknown.join(', ')}` : '',
      ].filter(Boolean);
      throw new RangeError(`setState: expected one tensor per parameter, got ${parts.join(' and ')}`);
    }
    for (const [path, { value }] of parameters) {
      if (shapeText(value.shape) !== shapeText(state[path].shape)) {
        throw new RangeError(
          `setState: expected ${path} ${shapeText(value.shape)}, got ${shapeText(state[path].shape)}`,
        );
      }
    }
    for (const [path, parameter] of parameters) parameter.value = state[path];
  }

  /** Sets options on this module and all submodules; see `View`. */
  setView(view: View): this {
    checkOptions('setView', view, VIEW);
    collect(this, '', (_, value) => {
      if (value instanceof Module) value.applyView(view);
    });
    return this;
  }

  /** Applies `setView` to this module only. */
  protected applyView(_view: View): void {}

  /** Dropout on: `setView({ deterministic: false })`. */
  train(): this {
    return this.setView({ deterministic: false });
  }

  /** Dropout off: `setView({ deterministic: true })`. */
  eval(): this {
    return this.setView({ deterministic: true });
  }

  /** Appends an intermediate result to the list of `name`; `pop` returns the lists. */
  sow(name: string, value: Tensor): void {
    adopt(value);
    this.#sown[name] ??= [];
    this.#sown[name].push(value);
  }

  /** Results sown since the last call, by name. The caller owns them. */
  pop(): Record<string, Tensor[]> {
    const sown = this.#sown;
    this.#sown = {};
    return sown;
  }

  /** The tree of its modules and variables, with dtypes and shapes, and the number of parameters. */
  toString(): string {
    const lines: string[] = [];
    collect(this, '', (path, value) => {
      const depth = path.split('.').length;
      const name = path.slice(path.lastIndexOf('.') + 1);
      const indented = (text: string) => lines.push(`${'  '.repeat(depth)}${name}: ${text}`);
      if (value instanceof Variable) indented(headOf(value));
      else if (path !== '') indented(Array.isArray(value) ? arrayText(value) : typeName(value));
    });
    let count = 0;
    for (const { value } of this.parameters().values()) count += value.size;
    return [`${this.constructor.name} (${grouped(count)} parameters)`, ...lines].join('\n');
  }

  static {
    printAsText(Module);
  }

  /** Frees all variables now instead of at garbage collection. */
  dispose(): void {
    for (const variable of this.variables().values()) variable.dispose();
  }
}

/** `Param f32 [2, 3]` */
function headOf(variable: Variable): string {
  const { dtype, shape, isDisposed } = variable.value;
  return `${typeName(variable)} ${dtype} ${shapeText(shape)}${isDisposed ? ' (disposed)' : ''}`;
}

/** `[2, 3]`, or `2 items` of modules and variables, which follow on lines of their own. */
function arrayText(items: readonly unknown[]): string {
  return items.every((item) => typeof item === 'number') ? shapeText(items) : `${items.length} items`;
}

function typeName(value: unknown): string {
  return (value as object).constructor.name;
}

/** Visits a value, then what its properties hold: variables, modules, arrays. */
function collect(value: unknown, path: string, visit: (path: string, value: unknown) => void): void {
  visit(path, value);
  const isModule = value instanceof Module;
  if (!isModule && !Array.isArray(value)) return;
  for (const [name, child] of Object.entries(value)) {
    if (child === null || typeof child !== 'object' || child instanceof Tensor) continue;
    const part = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    collect(child, path ? `${path}.${part}` : part, visit);
  }
}
