/** Reads and checks the numbers of a cache's file. Slots follow from them, so all are checked. */
import { show } from '../arguments/kinds.ts';
import { FormatError } from '../format/format-error.ts';
import { parseJson } from '../format/parse-json.ts';
import type { CacheLayer } from './cache.ts';
import { isCacheDType } from './parts.ts';
import type { CacheState, PagedState, StaticState, WindowState } from './snapshot.ts';

/** Most layers, rows and blocks: more than any cache has. */
const MAX_ITEMS = 1 << 24;

type Fields = Readonly<Record<string, unknown>>;

/** Reads fields of JSON objects. Each method throws a FormatError that names the file and the field. */
class StateReader {
  readonly #file: string;

  constructor(file: string) {
    this.#file = file;
  }

  fail(what: string, expected: string, got: unknown): FormatError {
    return new FormatError(this.#file, undefined, `${what}: expected ${expected}, got ${show(got)}`);
  }

  fields(what: string, value: unknown): Fields {
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields;
    throw this.fail(what, 'an object', value);
  }

  integer(what: string, value: unknown, low: number, high = Number.MAX_SAFE_INTEGER): number {
    if (Number.isSafeInteger(value) && (value as number) >= low && (value as number) <= high) {
      return value as number;
    }
    const range = high === Number.MAX_SAFE_INTEGER ? `of at least ${low}` : `from ${low} to ${high}`;
    throw this.fail(what, `an integer ${range}`, value);
  }

  list<T>(what: string, value: unknown, read: (item: unknown, index: number) => T, length?: number): T[] {
    if (!Array.isArray(value) || value.length > MAX_ITEMS || value.length !== (length ?? value.length)) {
      throw this.fail(
        what,
        length === undefined ? 'a list' : `a list of ${length}`,
        Array.isArray(value) ? `${value.length} items` : value,
      );
    }
    return value.map(read);
  }
}

/**
 * @param file what errors call it
 * @param text JSON
 * @throws FormatError for a text that is not the state of a cache, or whose numbers contradict each other
 */
export function readCacheState(file: string, text: string | undefined): CacheState {
  const read = new StateReader(file);
  if (text === undefined) throw read.fail('cache', 'the numbers of a cache in __metadata__', undefined);
  const fields = read.fields('cache', parseJson(file, text));
  const common = readCommon(read, fields);
  switch (fields.kind) {
    case 'static':
      return { kind: 'static', ...common };
    case 'window':
      return readWindow(read, fields, common);
    case 'paged':
      return readPaged(read, fields, common);
    default:
      throw read.fail('kind', 'static, window or paged', fields.kind);
  }
}

type Common = Omit<StaticState, 'kind'>;

function readCommon(read: StateReader, fields: Fields): Common {
  const batchSize = read.integer('batchSize', fields.batchSize, 1, MAX_ITEMS);
  const maxLength = read.integer('maxLength', fields.maxLength, 1);
  const { key, value } = read.fields('dtype', fields.dtype);
  if (!isCacheDType(key)) throw read.fail('dtype.key', 'f32, f16, bf16 or q8_0', key);
  if (!isCacheDType(value)) throw read.fail('dtype.value', 'f32, f16, bf16 or q8_0', value);
  const layers = read.list('layers', fields.layers, (layer, i) => readLayer(read, `layers[${i}]`, layer));
  const lengths = read.list(
    'lengths',
    fields.lengths,
    (length, row) => read.integer(`lengths[${row}]`, length, 0, maxLength),
    batchSize,
  );
  if (key !== value && layers.some(({ latentDim }) => latentDim !== undefined)) {
    throw read.fail('dtype', 'one dtype for latent rows', `${key} and ${value}`);
  }
  return { batchSize, maxLength, dtype: { key, value }, layers, lengths };
}

function readLayer(read: StateReader, what: string, value: unknown): CacheLayer {
  const fields = read.fields(what, value);
  const optional = (name: string, high?: number) =>
    fields[name] === undefined ? {} : { [name]: read.integer(`${what}.${name}`, fields[name], 1, high) };
  const headDim = read.integer(`${what}.headDim`, fields.headDim, 1);
  return {
    numKeyValueHeads: read.integer(`${what}.numKeyValueHeads`, fields.numKeyValueHeads, 1),
    headDim,
    ...optional('valueHeadDim'),
    ...optional('latentDim', headDim),
    ...optional('window'),
  };
}

function readWindow(read: StateReader, fields: Fields, common: Common): WindowState {
  const { batchSize, maxLength, layers, lengths } = common;
  const sinks = read.integer('sinks', fields.sinks, 0);
  const writtenEnd = read.list(
    'writtenEnd',
    fields.writtenEnd,
    (end, row) => read.integer(`writtenEnd[${row}]`, end, lengths[row], maxLength),
    batchSize,
  );
  const readRing = (value: unknown, i: number) => {
    const what = `rings[${i}]`;
    const { window = maxLength } = layers[i];
    const ring = read.fields(what, value);
    const least = Math.min(maxLength, sinks + window);
    const capacity = read.integer(`${what}.capacity`, ring.capacity, least, maxLength);
    // The tokens that the next query of a row sees must be there.
    const kept = Math.min(sinks, least);
    const overwrittenBelow = read.list(
      `${what}.overwrittenBelow`,
      ring.overwrittenBelow,
      (position, row) => {
        const needed = Math.max(kept, lengths[row] - window + 1);
        if (writtenEnd[row] - (capacity - kept) > needed) {
          throw read.fail(`writtenEnd[${row}]`, `at most ${needed + capacity - kept}`, writtenEnd[row]);
        }
        return read.integer(`${what}.overwrittenBelow[${row}]`, position, 0, needed);
      },
      batchSize,
    );
    return { capacity, overwrittenBelow };
  };
  return {
    ...{ kind: 'window', ...common, sinks, writtenEnd },
    rings: read.list('rings', fields.rings, readRing, layers.length),
  };
}

function readPaged(read: StateReader, fields: Fields, common: Common): PagedState {
  const { batchSize, lengths } = common;
  const blockSize = read.integer('blockSize', fields.blockSize, 1);
  const numBlocks = read.integer('numBlocks', fields.numBlocks, 1, MAX_ITEMS);
  const block = (what: string, value: unknown) => read.integer(what, value, 0, numBlocks - 1);
  const tables = read.list(
    'tables',
    fields.tables,
    (table, row) => {
      const what = `tables[${row}]`;
      const blocks = Math.ceil(lengths[row] / blockSize);
      return read.list(what, table, (item, i) => block(`${what}[${i}]`, item), blocks);
    },
    batchSize,
  );
  const free = read.list('free', fields.free, (item, i) => block(`free[${i}]`, item));
  const listed = new Set(tables.flat());
  for (const item of free) {
    if (listed.has(item)) throw read.fail('free', 'distinct blocks of no row', item);
    listed.add(item);
  }
  return { kind: 'paged', ...common, blockSize, numBlocks, tables, free };
}
