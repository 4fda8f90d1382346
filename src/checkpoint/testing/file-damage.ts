/** Generators of valid safetensors files, and of files with damage specific to the format. */
import type { Random } from '../../nn/random.js';
import { arrayTypes, type Dtype } from '../safetensors-header.js';
import { damageText, damageTree, pick, spell, type Tree, treeOf } from './json-damage.js';

const dtypes = Object.keys(arrayTypes) as Dtype[];

/** Names that a model might have, and names with a meaning in JavaScript. */
export const tensorNames = [
  ...['a.weight', 'a.bias', 'layers.0.norm', 'größe', 'x'],
  ...['__proto__', 'constructor', '0', ''],
];

/** A header whose tensors cover the data exactly; with `slips`, sometimes a few bytes more or fewer. */
function headerOf(
  random: Random,
  names: readonly string[],
  slips: boolean,
): { tree: Tree; dataBytes: number } {
  const header = new Map<string, unknown>();
  if (random.below(2)) header.set('__metadata__', { format: 'pt' });
  let dataBytes = 0;
  for (const name of names) {
    const dtype = pick(random, dtypes);
    const shape = Array.from({ length: random.below(4) }, () => random.below(4));
    const begin = dataBytes + (slips && random.below(16) === 0 ? random.below(9) - 4 : 0);
    dataBytes = begin + shape.reduce((product, size) => product * size, arrayTypes[dtype].BYTES_PER_ELEMENT);
    header.set(name, { dtype, shape, data_offsets: [begin, dataBytes] });
  }
  return { tree: treeOf(header), dataBytes };
}

/** One to four names of tensors. */
export function someNames(random: Random): string[] {
  const order = [...random.permutation(tensorNames.length)];
  return order.slice(0, 1 + random.below(4)).map((i) => tensorNames[i]!);
}

function fileOf(random: Random, header: string | Uint8Array, dataBytes: number): Buffer {
  const json = Buffer.from(header);
  const start = Buffer.alloc(8);
  start.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([start, json, Uint8Array.from({ length: dataBytes }, () => random.below(256))]);
}

/** A valid file of random tensors with these names. */
export function wholeFile(random: Random, names: readonly string[]): Buffer {
  const { tree, dataBytes } = headerOf(random, names, false);
  return fileOf(random, spell(tree), dataBytes);
}

const headerStrangers = [
  ...dtypes.map((dtype) => JSON.stringify(dtype)),
  ...['"F4"', '"F8_E4M3"', '"f32"', '[0]', '[0,0]', '[0,8]', '[8,0]', '[4294967296,4294967296]'],
  ...['[9007199254740991,0]', '[9007199254740983,9007199254740991]', `[${'1,'.repeat(300)}1]`],
];

/** A file with up to two changes to the fields of its header, and perhaps one to the header's text or the file's bytes. */
export function damagedFile(random: Random, names: readonly string[]): Buffer {
  const { tree, dataBytes } = headerOf(random, names, true);
  for (let changes = random.below(3); changes > 0; changes--) damageTree(random, tree, headerStrangers);
  let text = spell(tree);
  if (random.below(4) === 0) text = damageText(random, text);
  const bytes = fileOf(random, text, dataBytes);
  return random.below(4) === 0 ? damageBytes(random, bytes) : bytes;
}

/** Makes one random change to some bytes. */
export function damageBytes(random: Random, bytes: Buffer): Buffer {
  const at = random.below(bytes.length);
  switch (random.below(6)) {
    case 0:
      return bytes.subarray(0, at);
    case 1:
      return bytes.subarray(at);
    case 2:
      return Buffer.concat([bytes, Buffer.alloc(1 + random.below(9))]);
    case 3:
      bytes[at] = random.below(256);
      return bytes;
    case 4:
      return Buffer.from(Uint8Array.from({ length: at }, () => random.below(256)));
    default: {
      const length = bytes.readBigUInt64LE();
      const other = [0n, 1n, 2n, length - 1n, length + 1n, length + 8n, 10n ** 8n, 2n ** 30n, 2n ** 53n];
      bytes.writeBigUInt64LE(pick(random, [...other, 2n ** 63n, 2n ** 64n - 1n]));
      return bytes;
    }
  }
}
