#!/usr/bin/env node
/** The `heddle` command. */
import { Command } from 'commander';
import { HeddleError } from '../errors.js';
import { addTrainCommand } from './train.js';

const program = new Command('heddle').description('hybrid state-space + attention models');
addTrainCommand(program);

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof HeddleError)) throw error;
  process.stderr.write(`heddle: ${error.message}\n`);
  process.exitCode = 1;
}
