/**
 * A .zip archive of files as they are, without compression, since weights hardly compress.
 * Source: PKWARE APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12 and 4.3.16.
 */

const LIMIT = 2 ** 32 - 1;

/** @param files by path, with `/` between folders @throws RangeError above 4 GiB, which need another form */
export async function zip(files: ReadonlyMap<string, Uint8Array<ArrayBuffer>>): Promise<Blob> {
  const parts: BlobPart[] = [];
  const directory: Uint8Array<ArrayBuffer>[] = [];
  let offset = 0;
  for (const [path, bytes] of files) {
    const name = new TextEncoder().encode(path);
    const size = bytes.length;
    if (offset + size > LIMIT) throw new RangeError(`zip: expected less than 4 GiB, got more with ${path}`);
    // Of both headers: version 2.0, names in UTF-8, stored, 1980-01-01 00:00, then sizes.
    const common = [20, 0x800, 0, 0, 0x21];
    const sizes = [crc32(bytes), size, size];
    const local = header([0x04034b50], common, sizes, [name.length, 0]);
    directory.push(
      header([0x02014b50], [20, ...common], sizes, [name.length, 0, 0, 0, 0], [0, offset]),
      name,
    );
    parts.push(local, name, bytes);
    offset += local.length + name.length + size;
  }
  const length = directory.reduce((sum, part) => sum + part.length, 0);
  const end = header([0x06054b50], [0, 0, files.size, files.size], [length, offset], [0]);
  return new Blob([...parts, ...directory, end], { type: 'application/zip' });
}

/** Numbers in little endian: lists of 32, 16, 32, 16, … bits. */
function header(...lists: readonly (readonly number[])[]): Uint8Array<ArrayBuffer> {
  const length = lists.reduce((sum, list, i) => sum + list.length * (i % 2 === 0 ? 4 : 2), 0);
  const view = new DataView(new ArrayBuffer(length));
  let at = 0;
  for (const [i, list] of lists.entries()) {
    for (const value of list) {
      if (i % 2 === 0) view.setUint32(at, value, true);
      else view.setUint16(at, value, true);
      at += i % 2 === 0 ? 4 : 2;
    }
  }
  return new Uint8Array(view.buffer);
}

let table: Uint32Array | undefined;

function crc32(bytes: Uint8Array): number {
  table ??= Uint32Array.from({ length: 256 }, (_, i) => {
    let value = i;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
    return value;
  });
  let crc = 0xffffffff;
  for (const byte of bytes) crc = table[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}
