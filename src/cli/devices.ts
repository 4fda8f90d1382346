/** `heddle devices`: lists usable devices, and why others are not usable. */
import type { Command } from 'commander';
import { type Availability, deviceAvailability } from '../engine/availability.js';

interface DevicesOptions {
  json?: boolean;
}

/** Options and action of `heddle devices`. */
export function configure(command: Command): void {
  command.option('--json', 'print it as JSON').action(run);
}

async function run({ json = false }: DevicesOptions): Promise<void> {
  const devices = await deviceAvailability();
  process.stdout.write(json ? `${JSON.stringify(devices, null, 2)}\n` : `${devices.map(lines).join('\n')}\n`);
}

function lines({ name, usable, detail, next }: Availability): string {
  const head = `  ${name.padEnd(8)}${usable ? 'yes' : 'no '}  ${detail}`;
  return next === undefined ? head : `${head}\n${' '.repeat(15)}next: ${next}`;
}
