/** Translation: verses of the New Testament from English to Spanish, as bytes. */
import { inflateSync } from 'node:zlib';
import { LanguageModel } from '../generate/index.js';
import { Random } from '../nn/index.js';
import { idTokenizer } from '../text/index.js';
import { type EncodedPair, pairData } from '../train/index.js';
import { debianFile } from './data.js';
import type { Task, Trained } from './task.js';
import { bleu, chrF } from './translation-scores.js';

const [SEPARATOR, END] = [256, 257];
const VOCABULARY = 258;
/** The most bytes of a verse in both languages. */
const LONGEST = 512;
/**
 * The entries from Matthew to 1 Corinthians, for which both editions number chapters and verses alike: two headings, and for each book one
 * entry for itself, one for each chapter, and its verses.
 */
const ENTRIES = 2 + 7 + (28 + 16 + 24 + 21 + 28 + 16 + 16) + (1071 + 678 + 1151 + 879 + 1007 + 433 + 437);

/** Translating verses of the Bible from English to Spanish. */
export const verses: Task = {
  name: 'verses',
  about: 'verses from English to Spanish, byte by byte',
  source:
    "the World English Bible and the Reina-Valera of 1909, Debian's packages sword-text-web and sword-text-sparv",
  measure: { name: 'chrF', better: 'more' },
  lengths: { train: LONGEST, test: [LONGEST] },
  async prepare(length = LONGEST) {
    const english = await versesOf('sword-text-web', 'engWEB2015eb');
    const spanish = await versesOf('sword-text-sparv', 'spaRV1909eb');
    const both = english.flatMap((source, i) =>
      source && spanish[i] ? [{ source, target: spanish[i]! }] : [],
    );
    const pairs = both
      .map((pair) => ({ ...pair, ...encoded(pair) }))
      .filter(({ tokens }) => tokens.length <= length + 1);
    const order = [...new Random(1).permutation(pairs.length)].map((i) => pairs[i]!);
    const test = order.slice(0, 200);
    return {
      reads: { vocabulary: VOCABULARY },
      sequence: length,
      data: pairData(order.slice(400), order.slice(200, 400)),
      baselines: {
        'the source, as it is': chrF(
          test.map(({ source }) => source),
          [test.map(({ target }) => target)],
        ),
      },
      async *score(trained, { count }) {
        const some = test.slice(0, count);
        const written = await translated(trained, some);
        const references = [some.map(({ target }) => target)];
        yield { of: `chrF of ${some.length} verses`, value: chrF(written, references) };
        yield { of: `BLEU of ${some.length} verses`, value: bleu(written, references) };
      },
    };
  },
};

/** Translates the sources of these pairs with a model. */
export async function translated(
  { model, weights, device }: Trained,
  pairs: readonly EncodedPair[],
): Promise<string[]> {
  const writer = await LanguageModel.compile(model, weights, idTokenizer(VOCABULARY, 'verses'), device);
  try {
    const written: string[] = [];
    for (const { tokens, prefix } of pairs) {
      const session = writer.session();
      await session.read([...tokens.subarray(0, prefix)]);
      const bytes: number[] = [];
      const options = { maxTokens: LONGEST / 2, stopTokens: [END], temperature: 0 };
      for await (const { id } of session.generate(options))
        if (id !== undefined && id < SEPARATOR) bytes.push(id);
      written.push(Buffer.from(bytes).toString());
      session.dispose();
    }
    return written;
  } finally {
    await writer.dispose();
  }
}

/** Encodes a pair as bytes: the source, a separator, the target, and an end token. */
export function encoded({ source, target }: { source: string; target: string }): EncodedPair {
  const before = [...Buffer.from(source), SEPARATOR];
  return { tokens: Int32Array.from([...before, ...Buffer.from(target), END]), prefix: before.length };
}

/** The verses of an edition, by entry. */
async function versesOf(debian: string, module: string): Promise<string[]> {
  const folder = `/usr/share/sword/modules/texts/ztext/${module}`;
  const read = (ending: string): Promise<Buffer> => debianFile('verses', debian, `${folder}/nt.${ending}`);
  return zTexts(await read('bzv'), await read('bzs'), await read('bzz'), ENTRIES);
}

/**
 * The texts of the first entries of a module of the SWORD project, driver zText: `.bzv` has the block, offset and size
 * of each entry, `.bzs` the offset and sizes of each zlib-compressed block in `.bzz`.
 */
export function zTexts(places: Buffer, blocks: Buffer, packed: Buffer, entries: number): string[] {
  const unpacked = Array.from({ length: blocks.length / 12 }, (_, i) => {
    const [at, size] = [blocks.readUInt32LE(12 * i), blocks.readUInt32LE(12 * i + 4)];
    return size === 0 ? Buffer.alloc(0) : inflateSync(packed.subarray(at, at + size));
  });
  return Array.from({ length: entries }, (_, i) => {
    const [block, at, size] = [
      places.readUInt32LE(10 * i),
      places.readUInt32LE(10 * i + 4),
      places.readUInt16LE(10 * i + 8),
    ];
    return plainText(unpacked[block]!.toString('utf8', at, at + size));
  });
}

/** Removes OSIS markup, notes and headings. */
function plainText(osis: string): string {
  return osis
    .replace(/<(note|title)\b[^>]*>.*?<\/\1>/gs, ' ')
    .replace(/<[^>]*>/g, '')
    .replaceAll('¶', '')
    .replace(/\s+/g, ' ')
    .trim();
}
