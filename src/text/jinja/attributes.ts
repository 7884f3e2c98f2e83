/**
 * `object.name` and `object[key]` as in Jinja's immutable sandbox: a dot looks up an attribute first, then a
 * key; brackets look up a key first. Methods that modify a list or a dict exist but are refused.
 *
 * Source: jinja2 3.1.6, sandbox.py.
 */
import { bind } from './arguments.ts';
import { fail, reserveItems, unsupported } from './limits.ts';
import { subscript } from './operators.ts';
import { stringMethod } from './string-methods.ts';
import {
  Dict,
  defined,
  either,
  equal,
  Fn,
  Group,
  Markup,
  Namespace,
  Native,
  reprOf,
  Tuple,
  typeName,
  Undefined,
  type Value,
  View,
} from './values.ts';

const MUTATING_METHODS: Readonly<Record<string, ReadonlySet<string>>> = {
  list: new Set(['append', 'clear', 'pop', 'reverse', 'insert', 'sort', 'extend', 'remove']),
  dict: new Set(['clear', 'pop', 'popitem', 'setdefault', 'update']),
};

/** Other attributes of Python's types: refused instead of looked up as a key. */
const OTHER_ATTRIBUTES: Readonly<Record<string, ReadonlySet<string>>> = {
  dict: new Set(['fromkeys']),
  dict_keys: new Set(['isdisjoint', 'mapping']),
  dict_values: new Set(['mapping']),
  dict_items: new Set(['isdisjoint', 'mapping']),
  int: new Set(
    'as_integer_ratio bit_count bit_length conjugate denominator from_bytes imag is_integer numerator real to_bytes'.split(
      ' ',
    ),
  ),
  float: new Set('as_integer_ratio conjugate fromhex hex imag is_integer real'.split(' ')),
  generator: new Set('close gi_code gi_frame gi_running gi_suspended gi_yieldfrom send throw'.split(' ')),
  range: new Set(['count', 'index', 'start', 'step', 'stop']),
};

/** An attribute of the Python object, undefined when it has none of that name. */
function ownAttribute(object: Value, name: string): Value | undefined {
  if (object instanceof Namespace)
    return name.startsWith('__') ? unsupported(`the attribute ${name}`) : object.values.get(name);
  if (object instanceof Native) return object.attribute(name);
  const kind = typeName(object);
  if (name.startsWith('__') && name.endsWith('__') && !(object instanceof Dict && !DUNDER.has(name))) {
    return unsupported(`the attribute ${name} of a ${kind}`);
  }
  if (MUTATING_METHODS[kind]?.has(name)) {
    return new Undefined(`access to attribute '${name}' of '${kind}' object is unsafe.`);
  }
  if (OTHER_ATTRIBUTES[kind === 'bool' ? 'int' : kind]?.has(name))
    unsupported(`the attribute ${name} of a ${kind}`);
  if (typeof object === 'string') {
    const method = stringMethod(name, (value, key, dotted) =>
      dotted ? attribute(value, key) : item(value, key),
    );
    return method && new Fn(name, (args, keywords) => method(object, args, keywords));
  }
  if (object instanceof Markup && stringMethod(name, () => null))
    unsupported(`the method ${name} of what safe or escape gave`);
  if (object instanceof Dict) return dictMethod(object, name);
  if (Array.isArray(object) || object instanceof Tuple) return listMethod(object, name);
  return undefined;
}

/** Double-underscore attributes of Python's dicts; other such names may be keys. */
const DUNDER = new Set(
  'class class_getitem contains delattr delitem dir doc eq format ge getattribute getitem getstate gt hash init init_subclass ior iter le len lt ne new or reduce reduce_ex repr reversed ror setattr setitem sizeof str subclasshook'
    .split(' ')
    .map((name) => `__${name}__`),
);

function dictMethod(dict: Dict, name: string): Value | undefined {
  switch (name) {
    case 'items':
    case 'keys':
    case 'values':
      return new Fn(name, (args, keywords) => {
        bind(name, [], 0, args, keywords);
        return new View(name, dict);
      });
    case 'get':
      return new Fn(name, (args) => {
        const [key = null, otherwise = null] = bind(name, ['key', 'default'], 1, args, new Map());
        return either(dict.get(key), () => otherwise);
      });
    case 'copy':
      return new Fn(name, () => {
        reserveItems(dict.size);
        return new Dict(dict.entries());
      });
  }
  return undefined;
}

function listMethod(list: Value[] | Tuple, name: string): Value | undefined {
  const items = list instanceof Tuple ? list.items : list;
  if (list instanceof Group && name === 'grouper') return items[0];
  if (list instanceof Group && name === 'list') return items[1];
  switch (name) {
    case 'count':
      return new Fn(name, ([value = null]) => BigInt(items.filter((one) => equal(one, value)).length));
    case 'index':
      return new Fn(name, (args) => {
        if (args.length > 1) unsupported('index with a start');
        const at = items.findIndex((one) => equal(one, args[0]));
        return at < 0 ? fail(`${reprOf(args[0])} is not in list`) : BigInt(at);
      });
    case 'copy':
      if (list instanceof Tuple) return undefined;
      return new Fn(name, () => {
        reserveItems(items.length);
        return [...items];
      });
  }
  return undefined;
}

function missing(object: Value, key: Value): Undefined {
  const what = typeof key === 'string' ? `attribute '${key}'` : `element ${reprOf(key)}`;
  return new Undefined(`'${typeName(object)} object' has no ${what}`);
}

/** `object.name` */
export function attribute(object: Value, name: string): Value {
  defined(object);
  return either(ownAttribute(object, name), () =>
    either(subscript(object, name), () => missing(object, name)),
  );
}

/** `object[key]` */
export function item(object: Value, key: Value): Value {
  defined(object);
  const found = subscript(object, key);
  if (found !== undefined) return found;
  return either(typeof key === 'string' ? ownAttribute(object, key) : undefined, () => missing(object, key));
}
