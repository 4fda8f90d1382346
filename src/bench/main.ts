/** `npm run bench`: Heddle's speed and memory on this machine. */
import { HeddleError } from '../errors.js';
import { benchProgram } from './program.js';

try {
  await benchProgram().parseAsync();
} catch (error) {
  if (!(error instanceof HeddleError)) throw error;
  process.stderr.write(`bench: ${error.message}\n`);
  process.exitCode = 1;
}
