/**
 * `object.name` and `object[key]` as in Jinja's immutable sandbox: a dot looks up an attribute first, then a
 * key; brackets look up a key first. Methods that modify a list or a dict exist but are refused.
 *
 * Source: jinja2 3.1.6, sandbox.py.
 */

import { type Bound, bySignature, methodOf } from './arguments.ts';
import { equal } from './comparison.ts';
import { braceFormat } from './format.ts';
import { fail, reserveItems, unsupported } from './limits.ts';
import { subscript } from './operators.ts';
import { stringMethods } from './string-methods.ts';
import {
  Dict,
  defined,
  either,
  Fn,
  Group,
  Markup,
  Namespace,
  Native,
  reprOf,
  sequence,
  typeName,
  Undefined,
  type Value,
  View,
} from './values.ts';

const namesIn = (text: string): ReadonlySet<string> => new Set(text.split(' '));

const MUTATING_METHODS: Readonly<Record<string, ReadonlySet<string>>> = {
  list: namesIn('append clear pop reverse insert sort extend remove'),
  dict: namesIn('clear pop popitem setdefault update'),
};

/** Other attributes of Python's types: refused instead of looked up as a key. */
const OTHER_ATTRIBUTES: Readonly<Record<string, ReadonlySet<string>>> = {
  str: namesIn('casefold encode expandtabs format_map isprintable istitle maketrans swapcase translate'),
  dict: namesIn('fromkeys'),
  dict_keys: namesIn('isdisjoint mapping'),
  dict_values: namesIn('mapping'),
  dict_items: namesIn('isdisjoint mapping'),
  int: namesIn(
    'as_integer_ratio bit_count bit_length conjugate denominator from_bytes imag is_integer numerator real to_bytes',
  ),
  float: namesIn('as_integer_ratio conjugate fromhex hex imag is_integer real'),
  generator: namesIn('close gi_code gi_frame gi_running gi_suspended gi_yieldfrom send throw'),
  range: namesIn('count index start step stop'),
};

/** Double-underscore attributes of Python's dicts; other such names may be keys. */
const DUNDER = namesIn(
  'class class_getitem contains delattr delitem dir doc eq format ge getattribute getitem getstate gt hash init init_subclass ior iter le len lt ne new or reduce reduce_ex repr reversed ror setattr setitem sizeof str subclasshook',
);

/** An attribute of the Python object, undefined when it has none of that name. */
function ownAttribute(object: Value, name: string): Value | undefined {
  if (object instanceof Namespace)
    return name.startsWith('__') ? unsupported(`the attribute ${name}`) : object.values.get(name);
  if (object instanceof Native)
    return Object.hasOwn(object.attributes, name) ? object.attributes[name]() : undefined;
  const kind = typeName(object);
  if (/^__.*__$/s.test(name) && !(object instanceof Dict && !DUNDER.has(name.slice(2, -2))))
    return unsupported(`the attribute ${name} of a ${kind}`);
  if (MUTATING_METHODS[kind]?.has(name))
    return new Undefined(`access to attribute '${name}' of '${kind}' object is unsafe.`);
  if (OTHER_ATTRIBUTES[kind === 'bool' ? 'int' : kind]?.has(name))
    unsupported(`the attribute ${name} of a ${kind}`);
  if (
    object instanceof Markup &&
    (stringMethods.has(name) || name === 'format' || OTHER_ATTRIBUTES.str.has(name))
  )
    unsupported(`the method ${name} of a result of safe or escape`);
  if (object instanceof Dict) return methodOf(object, dictMethods, name);
  if (typeof object === 'string') {
    if (name !== 'format') return methodOf(object, stringMethods, name);
    return new Fn(name, (args, keywords) =>
      braceFormat(object, args, keywords, (value, key, dotted) => (dotted ? attribute : item)(value, key)),
    );
  }
  if (object instanceof Group && name === 'grouper') return object.items[0];
  if (object instanceof Group && name === 'list') return object.items[1];
  const items = sequence(object);
  if (items === undefined || (name === 'copy' && !Array.isArray(object))) return undefined;
  return methodOf(items, listMethods, name);
}

const dictMethods: ReadonlyMap<string, Bound<Dict, Value>> = bySignature<Dict, Value>({
  'items()': (dict) => new View('items', dict),
  'keys()': (dict) => new View('keys', dict),
  'values()': (dict) => new View('values', dict),
  'get(key, default?, /)': (dict, key: Value, otherwise: Value = null) =>
    either(dict.get(key), () => otherwise),
  'copy()': (dict) => {
    reserveItems(dict.size);
    return new Dict(dict.entries());
  },
});

const listMethods: ReadonlyMap<string, Bound<readonly Value[], Value>> = bySignature<readonly Value[], Value>(
  {
    'count(value, /)': (items, value: Value) => BigInt(items.filter((one) => equal(one, value)).length),
    'index(value, /)': (items, value: Value) => {
      const at = items.findIndex((one) => equal(one, value));
      return at < 0 ? fail(`${reprOf(value)} is not in list`) : BigInt(at);
    },
    'copy()': (items) => {
      reserveItems(items.length);
      return [...items];
    },
  },
);

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
