/** `heddle archive search`: passages that have the words. */
import type { Command } from 'commander';
import { type Hit, search } from '../../archive/index.js';
import { positive } from '../../bench/positive.js';
import { visible } from '../../checkpoint/index.js';
import { each } from '../options.js';
import { type ArchiveFlags, addArchiveOptions, say, withArchive } from './options.js';

interface SearchFlags extends ArchiveFlags {
  limit: number;
  in?: string[];
  json?: boolean;
}

/** Arguments, options and action of `heddle archive search`. */
export function configureSearch(command: Command): void {
  command
    .description('passages that have these words, with their pages')
    .argument('<words...>')
    .option('--limit <n>', 'how many', positive, 10)
    .option(
      '--in <document>',
      'only in this document: its path or the end of it, its name, or digits of its content (may be given several times)',
      each,
    )
    .option('--json', 'as JSON, with the places on the pages');
  addArchiveOptions(command).action((words: string[], flags: SearchFlags) => run(words.join(' '), flags));
}

async function run(words: string, flags: SearchFlags): Promise<void> {
  await withArchive(flags, {}, async (archive) => {
    const documents = flags.in && (await Promise.all(flags.in.map((name) => archive.document(name))));
    const { hits, missing } = await search(archive, words, {
      limit: flags.limit,
      documents: documents?.map(({ content }) => content),
    });
    if (flags.json) {
      process.stdout.write(`${JSON.stringify({ hits, missing }, null, 2)}\n`);
      return;
    }
    for (const [i, hit] of hits.entries()) process.stdout.write(`${shownHit(i + 1, hit)}\n`);
    if (hits.length === 0) say('nothing has these words');
    if (missing.length > 0) say(`not in the archive: ${missing.join(', ')}`);
  });
}

/** A passage with its place, its text shortened. */
export function shownHit(number: number, { path, name, page, text, heading }: Hit): string {
  const short = text.replace(/\s+/g, ' ');
  const under = heading === '' || text.startsWith(heading) ? '' : `  (${heading.replaceAll('\n', ' / ')})`;
  const shown = short.length > 300 ? `${short.slice(0, 300)}...` : short;
  return `${visible(`[${number}] ${path ?? name}, page ${page}${under}`)}\n    ${visible(shown)}`;
}
