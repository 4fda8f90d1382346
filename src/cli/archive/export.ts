/** `heddle archive export`: the text of all pages, as lines of JSON. */
import type { Command } from 'commander';
import { streamFileAtomic } from '../../checkpoint/index.js';
import { type ArchiveFlags, addArchiveOptions, counted, say, withArchive } from './options.js';

interface ExportFlags extends ArchiveFlags {
  out?: string;
}

/** Arguments, options and action of `heddle archive export`. */
export function configureExport(command: Command): void {
  command
    .description('every page as a line of JSON: document, paths, page, state, and text')
    .argument('[documents...]', 'only these (default: all)')
    .option('--out <file>', 'write them there, whole or not at all (default: to standard output)');
  addArchiveOptions(command).action((documents: string[], flags: ExportFlags) => run(documents, flags));
}

/** The pages that are fetched at a time. */
const BATCH = 500;

async function run(names: readonly string[], flags: ExportFlags): Promise<void> {
  await withArchive(flags, {}, async (archive) => {
    const documents =
      names.length > 0
        ? await Promise.all(names.map((name) => archive.document(name)))
        : await archive.documents();
    let count = 0;
    const write = async (out: (text: string) => Promise<unknown>): Promise<void> => {
      for (const { content, name, paths, state, why, pages } of documents) {
        if (state === 'failed')
          await out(
            `${JSON.stringify({ document: content, name, paths, page: null, state, why, text: '' })}\n`,
          );
        for (let first = 1; first <= (pages ?? 0); first += BATCH) {
          const lines = (await archive.pages(content, first, first + BATCH - 1)).map(
            ({ page, state, why, text }) =>
              JSON.stringify({
                document: content,
                name,
                paths,
                page,
                state,
                ...(why !== null && { why }),
                text,
              }),
          );
          count += lines.length;
          if (lines.length > 0) await out(`${lines.join('\n')}\n`);
        }
      }
    };
    if (flags.out === undefined) {
      await write((text) => new Promise((resolve) => process.stdout.write(text, () => resolve(undefined))));
      return;
    }
    await streamFileAtomic(flags.out, (bytes) => write((text) => bytes(new TextEncoder().encode(text))));
    say(`${counted(count, 'page')} of ${counted(documents.length, 'document')} in ${flags.out}`);
  });
}
