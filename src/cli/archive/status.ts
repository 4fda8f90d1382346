/** `heddle archive status`: what is in an archive, and what could not be read. */
import type { Command } from 'commander';
import { PAGE_STATES } from '../../archive/index.js';
import { visible } from '../../checkpoint/index.js';
import { type ArchiveFlags, addArchiveOptions, counted, withArchive } from './options.js';
import { PageProblems } from './page-problems.js';

interface StatusFlags extends ArchiveFlags {
  documents?: boolean;
  problems?: boolean;
  json?: boolean;
}

/** Options and action of `heddle archive status`. */
export function configureStatus(command: Command): void {
  command
    .description('what is in an archive, what is left to read, and what could not be read and why')
    .option('--documents', 'each document: its pages, by what became of them')
    .option('--problems', 'each file and page that is not read, with the reason')
    .option('--json', 'all of it as JSON');
  addArchiveOptions(command).action((flags: StatusFlags) => run(flags));
}

async function run(flags: StatusFlags): Promise<void> {
  await withArchive(flags, {}, async (archive) => {
    const totals = await archive.totals();
    const documents = flags.documents || flags.json ? await archive.documents() : [];
    const problems = flags.problems || flags.json ? await archive.problems() : [];
    if (flags.json) {
      process.stdout.write(`${JSON.stringify({ ...totals, documents, problems }, null, 2)}\n`);
      return;
    }
    const { documents: byState, pages } = totals;
    const all = Object.values(byState).reduce((a, b) => a + b, 0);
    const known = PAGE_STATES.reduce((sum, state) => sum + pages[state], 0);
    print(`${counted(totals.files, 'file')}, ${counted(all, 'document')}: ${listed(byState)}`);
    print(
      `${counted(known, 'page')}: ${listed(pages)}${totals.left > 0 ? `; ${totals.left.toLocaleString('en')} left to read` : ''}`,
    );
    print(`${counted(totals.passages, 'passage')} to search`);
    for (const { name, content, state, why, pages: count, counts, paths, readings } of documents) {
      const what =
        state === 'failed'
          ? why
          : `${count === null ? 'not opened yet' : counted(count, 'page')}, ${listed(counts)}`;
      print(`${content.slice(0, 12)}  ${name}  ${state}: ${what}`);
      for (const path of paths) print(`              ${path}`);
      for (const { model, tokens, state: reading, why: reason } of readings) {
        print(
          `              model ${model.slice(0, 12)}: ${reading}${tokens > 0 ? `, ${tokens.toLocaleString('en')} tokens` : ''}${reason ? `, ${reason}` : ''}`,
        );
      }
    }
    const unread = new PageProblems(print);
    for (const { path, page, state, why } of problems) {
      const what = `${state}${why ? `, ${why}` : ''}`;
      if (page === null) print(`${path}: ${what}`);
      else unread.add(path, page, what);
    }
    unread.flush();
    const bad = byState.failed + pages.failed + pages.scanned;
    if (bad > 0 && !flags.problems) print('--problems tells what is not read, and why');
  });
}

function listed(counts: Readonly<Record<string, number>>): string {
  const there = Object.entries(counts).filter(([, count]) => count > 0);
  return there.length === 0
    ? 'none read'
    : there.map(([state, count]) => `${count.toLocaleString('en')} ${state}`).join(', ');
}

function print(line: string): void {
  process.stdout.write(`${visible(line)}\n`);
}
