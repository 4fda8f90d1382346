/** `heddle key`: creates an API key for `heddle serve --keys`. */
import type { Command } from 'commander';
import { addKey } from '../server/keys.js';

/** Arguments and action of `heddle key`. */
export function configure(command: Command): void {
  command
    .argument('<file>', 'the file of keys, which is made if there is none')
    .argument('<name>', 'whose key it is: saved states belong to that name')
    .action(async (file: string, name: string) => {
      process.stdout.write(`${await addKey(file, name)}\n`);
    });
}
