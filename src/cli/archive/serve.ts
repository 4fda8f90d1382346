/** `heddle archive serve`: `heddle serve` with an archive, and with the shipped model by default. */
import type { Command } from 'commander';
import { ARCHIVE_FOLDER } from '../../archive/index.js';
import { SHIPPED_MODEL } from '../../models/index.js';
import { addServeOptions, MODELS_HELP, run, type ServeFlags } from '../serve.js';

/** Arguments, options and action of `heddle archive serve`. */
export function configureServe(command: Command): void {
  command
    .description(
      'serve the archive to the studio and over HTTP, with models that answer; otherwise as: serve',
    )
    .argument('[models...]', `${MODELS_HELP} (default: ${SHIPPED_MODEL})`);
  addServeOptions(command).action((models: string[], flags: ServeFlags) =>
    run(models.length > 0 ? models : [SHIPPED_MODEL], {
      ...flags,
      archive: flags.archive ?? ARCHIVE_FOLDER,
      makeArchive: true,
    }),
  );
}
