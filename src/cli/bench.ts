/** `heddle bench`: profiles a model on this machine. Heddle's own benchmarks are `npm run bench` in a clone. */
import type { Command } from 'commander';
import { addOpsCommand } from '../bench/ops-command.js';

/** The benchmark that ships with the package, `heddle bench ops`. */
export function configure(command: Command): void {
  addOpsCommand(command);
}
