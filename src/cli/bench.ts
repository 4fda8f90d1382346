/** `heddle bench`: what a model's tokens cost here. The benchmarks of Heddle itself are `npm run bench` of a clone. */
import type { Command } from 'commander';
import { addOpsCommand } from '../bench/ops-command.js';

/** The benchmark that ships with the package, `heddle bench ops`. */
export function configure(command: Command): void {
  addOpsCommand(command);
}
