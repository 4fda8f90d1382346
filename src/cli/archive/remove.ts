/** `heddle archive remove`: removes documents for good. */
import type { Command } from 'commander';
import { removeDocuments } from '../../archive/index.js';
import { visible } from '../../checkpoint/index.js';
import { type ArchiveFlags, addArchiveOptions, withArchive } from './options.js';

/** Arguments, options and action of `heddle archive remove`. */
export function configureRemove(command: Command): void {
  command
    .description(
      'remove documents with their text and states; files that were uploaded are deleted, other files stay and are not read again until they are named',
    )
    .argument(
      '<documents...>',
      "each by its path, the end of its path, or the beginning of its content's hash",
    );
  addArchiveOptions(command).action((documents: string[], flags: ArchiveFlags) => run(documents, flags));
}

async function run(names: readonly string[], flags: ArchiveFlags): Promise<void> {
  await withArchive(flags, {}, async (archive) => {
    // All are looked up first: a wrong name removes nothing.
    const named = await Promise.all(names.map((name) => archive.document(name)));
    const documents = [...new Map(named.map((each) => [each.content, each])).values()];
    for (const [i, kept] of (await removeDocuments(archive, documents)).entries()) {
      process.stdout.write(
        `${visible(`${documents[i]!.name} is removed${kept.length > 0 ? `; its file stays: ${kept.join(', ')}` : ''}`)}\n`,
      );
    }
  });
}
