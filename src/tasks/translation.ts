/** Translation: verses of the Bible from English to Spanish. */
import { inflateSync } from 'node:zlib';
import { LanguageModel } from '../generate/index.js';
import { Random } from '../nn/index.js';
import { type TextPair, Tokenizer, tokenizerFiles, trainBpe } from '../text/index.js';
import { type EncodedPair, encodePair, pairData } from '../train/index.js';
import { debianFile } from './data.js';
import type { Task, Trained } from './task.js';
import { bleu, chrF } from './translation-scores.js';

/** The size of the vocabulary, which is learned from both languages. */
const VOCABULARY = 2048;
/** The most tokens of a verse in both languages; nearly all have fewer. */
const LONGEST = 160;
/** Verses that are held out, and as many that are tested. */
const HELD = 200;
/**
 * The entries for which both editions number chapters and verses alike: the Old Testament, and the New one from Matthew to 1 Corinthians (two headings, and for
 * each book one entry for itself, one for each chapter, and its verses).
 */
const ENTRIES = {
  ot: 24_115,
  nt: 2 + 7 + (28 + 16 + 24 + 21 + 28 + 16 + 16) + (1071 + 678 + 1151 + 879 + 1007 + 433 + 437),
};

/** Translating verses of the Bible from English to Spanish. */
export const verses: Task = {
  name: 'verses',
  about: `verses from English to Spanish, in ${VOCABULARY.toLocaleString('en')} tokens of both`,
  source:
    "the World English Bible and the Reina-Valera of 1909, Debian's packages sword-text-web and sword-text-sparv",
  measure: { name: 'chrF', better: 'more' },
  lengths: { train: LONGEST, test: [LONGEST] },
  async prepare(length = LONGEST) {
    const english = await versesOf('sword-text-web', 'engWEB2015eb');
    const spanish = await versesOf('sword-text-sparv', 'spaRV1909eb');
    // Some verses come several times: each counts once, so that none that is tested was learned.
    const both = new Map(
      english.flatMap((source, i) => (source && spanish[i] ? [[source, spanish[i]!]] : [])),
    );
    const pairs = [...both].map(([source, target]) => ({ source, target }));
    const order = [...new Random(1).permutation(pairs.length)].map((i) => pairs[i]!);
    const learned = order.slice(2 * HELD);
    const texts = learned.flatMap(({ source, target }) => [source, target]);
    const tokenizer = new Tokenizer(tokenizerFiles(trainBpe(texts, { vocabSize: VOCABULARY })));
    const encoded = (some: readonly TextPair[]): Verse[] =>
      some
        .map((pair) => ({ ...pair, ...encodePair(tokenizer, pair) }))
        .filter(({ tokens }) => tokens.length <= length + 1);
    const test = encoded(order.slice(0, HELD));
    return {
      reads: { vocabulary: VOCABULARY },
      sequence: length,
      data: pairData(encoded(learned), encoded(order.slice(HELD, 2 * HELD))),
      baselines: {
        'the source, as it is': chrF(
          test.map(({ source }) => source),
          [test.map(({ target }) => target)],
        ),
      },
      async *score(trained, { count }) {
        const some = test.slice(0, count);
        const written = await translated(trained, tokenizer, some, length);
        const references = [some.map(({ target }) => target)];
        yield { of: `chrF of ${some.length} verses`, value: chrF(written, references) };
        yield { of: `BLEU of ${some.length} verses`, value: bleu(written, references) };
      },
    };
  },
};

type Verse = TextPair & EncodedPair;

/** Translates the sources of these pairs with a model, each with the most probable tokens, `most` of them at most. */
export async function translated(
  { model, weights, device }: Trained,
  tokenizer: Tokenizer,
  pairs: readonly EncodedPair[],
  most: number,
): Promise<string[]> {
  const writer = await LanguageModel.compile(model, weights, tokenizer, device);
  try {
    const written: string[] = [];
    for (const { tokens, prefix } of pairs) {
      const session = writer.session();
      await session.read([...tokens.subarray(0, prefix)]);
      let text = '';
      for await (const event of session.generate({ maxTokens: most, temperature: 0 })) text += event.text;
      written.push(text.trim());
      session.dispose();
    }
    return written;
  } finally {
    await writer.dispose();
  }
}

/** The verses of an edition, by entry. */
async function versesOf(debian: string, module: string): Promise<string[]> {
  const folder = `/usr/share/sword/modules/texts/ztext/${module}`;
  const part = async (name: keyof typeof ENTRIES): Promise<string[]> => {
    const read = (ending: string): Promise<Buffer> =>
      debianFile('verses', debian, `${folder}/${name}.${ending}`);
    return zTexts(await read('bzv'), await read('bzs'), await read('bzz'), ENTRIES[name]);
  };
  return [...(await part('ot')), ...(await part('nt'))];
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
