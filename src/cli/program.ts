/** All that the `heddle` command can do. */
import { createRequire } from 'node:module';
import { Command } from 'commander';
import { visible } from '../checkpoint/index.js';
import { HeddleError } from '../errors.js';
import { addChatCommand } from './chat.js';
import { addCompareCommand } from './compare.js';
import { addDemoCommand } from './demo.js';
import { addEvaluateCommand } from './evaluate.js';
import { addExplainCommand } from './explain.js';
import { addExportCommand } from './export.js';
import { addGenerateCommand } from './generate.js';
import { addInfoCommand } from './info.js';
import { addMergeCommand } from './merge.js';
import { addPullCommand } from './pull.js';
import { addQuantizeCommand } from './quantize.js';
import { addReadCommand } from './read.js';
import { addServeCommand } from './serve.js';
import { addStartCommand } from './start.js';
import { addTrainCommand } from './train.js';

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };
const program = new Command('heddle').description('hybrid state-space + attention models').version(version);
addStartCommand(program);
addDemoCommand(program);
addTrainCommand(program);
addGenerateCommand(program);
addReadCommand(program);
addServeCommand(program);
addChatCommand(program);
addEvaluateCommand(program);
addExplainCommand(program);
addCompareCommand(program);
addExportCommand(program);
addMergeCommand(program);
addPullCommand(program);
addQuantizeCommand(program);
addInfoCommand(program);

// Whoever reads our output may stop early, as `head` does. Work whose messages nobody reads goes on.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(0);
});
process.stderr.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof HeddleError)) throw error;
  process.stderr.write(`heddle: ${visible(error.message)}\n`);
  process.exitCode = 1;
}
