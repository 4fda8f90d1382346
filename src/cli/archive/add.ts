/** `heddle archive add`: adds documents and reads them. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { type Archive, type ScanOutcome, scan } from '../../archive/index.js';
import { ArchiveError } from '../../errors.js';
import { formatBytes } from '../format.js';
import { abortedByPerson } from '../interrupt.js';
import { addArchiveOptions, counted, say, withArchive } from './options.js';
import { ProgressLine } from './progress.js';
import { addReadingOptions, type ReadingFlags, readWaiting } from './reading.js';

interface AddFlags extends ReadingFlags {
  language?: string;
  queue?: boolean;
}

/** The most file names that are listed. */
const TOLD = 5;

/** Arguments, options and action of `heddle archive add`. */
export function configureAdd(command: Command): void {
  command
    .description(
      'read files and folders (PDF, Word, HTML, Markdown, text) into an archive; what is there already is not read again',
    )
    .argument(
      '[paths...]',
      'files and folders; without any, those that were added before are looked at again',
    )
    .option(
      '--language <name>',
      'of the search, when the archive is made: english, german, french, simple, ... (default: english)',
    )
    .option('--queue', 'only note what is to be read, and leave it to: archive work');
  addReadingOptions(addArchiveOptions(command)).action((paths: string[], flags: AddFlags) =>
    run(paths, flags),
  );
}

async function run(paths: readonly string[], flags: AddFlags): Promise<void> {
  const missing = paths.find((path) => !existsSync(path));
  if (missing !== undefined)
    throw new ArchiveError(`there is no file or folder ${missing}: nothing was added`);
  const signal = abortedByPerson();
  const create = paths.length > 0;
  await withArchive(flags, { create, language: flags.language, signal }, async (archive) => {
    const roots = paths.length > 0 ? paths.map((path) => resolve(path)) : await archive.roots();
    if (roots.length === 0)
      throw new ArchiveError('nothing was added to the archive yet: name files or folders');
    const outcome = await scanAll(archive, roots, signal);
    if (signal.aborted) {
      process.exitCode = 130;
      return;
    }
    tell(outcome);
    const allRead = flags.queue ? true : await readWaiting(archive, flags, { signal });
    if ((!allRead || outcome.problems.length > 0) && process.exitCode === undefined) process.exitCode = 1;
  });
}

async function scanAll(
  archive: Archive,
  roots: readonly string[],
  signal: AbortSignal,
): Promise<ScanOutcome> {
  const all: ScanOutcome = { added: 0, known: 0, gone: 0, removed: 0, leftOut: [], problems: [] };
  const line = new ProgressLine();
  try {
    for (const root of roots) {
      await archive.addRoot(root);
      const progress = ({ files, bytes }: { files: number; bytes: number }): void =>
        line.show(() => `looking at ${root}: ${counted(files, 'file')}, ${formatBytes(bytes)} compared`);
      const { added, known, gone, removed, leftOut, problems } = await scan(archive, root, {
        signal,
        progress,
      });
      all.added += added;
      all.known += known;
      all.gone += gone;
      all.removed += removed;
      all.leftOut.push(...leftOut);
      all.problems.push(...problems);
    }
  } catch (error) {
    if (!(signal.aborted && error === signal.reason)) throw error;
  } finally {
    line.clear();
  }
  return all;
}

function tell({ added, known, gone, removed, leftOut, problems }: ScanOutcome): void {
  const parts = [`${counted(added, 'document')} to read`, `${counted(known, 'file')} known already`];
  if (gone > 0) parts.push(`${counted(gone, 'document')} gone`);
  if (removed > 0) parts.push(`${counted(removed, 'file')} removed before (name them to add them again)`);
  say(parts.join(', '));
  if (leftOut.length > 0) {
    const more = leftOut.length > TOLD ? `, and ${leftOut.length - TOLD} more` : '';
    say(`left out, since no reader is for them: ${leftOut.slice(0, TOLD).join(', ')}${more}`);
  }
  for (const { path, why } of problems) say(`${path}: ${why}`);
}
