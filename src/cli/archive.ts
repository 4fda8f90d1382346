/** `heddle archive`: a library of documents that is read once, then searched and asked any number of times. */
import type { Command } from 'commander';
import { configureAdd } from './archive/add.js';
import { configureAsk } from './archive/ask.js';
import { configureExport } from './archive/export.js';
import { configureRemove } from './archive/remove.js';
import { configureSearch } from './archive/search.js';
import { configureServe } from './archive/serve.js';
import { configureStatus } from './archive/status.js';
import { configureSummary } from './archive/summary.js';
import { configureWork } from './archive/work.js';

/** The commands of `heddle archive`. */
export function configure(command: Command): void {
  configureAdd(command.command('add'));
  configureWork(command.command('work'));
  configureStatus(command.command('status'));
  configureSearch(command.command('search'));
  configureAsk(command.command('ask'));
  configureSummary(command.command('summary'));
  configureExport(command.command('export'));
  configureRemove(command.command('remove'));
  configureServe(command.command('serve'));
}
