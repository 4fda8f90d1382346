#!/usr/bin/env node
/**
 * The `heddle` command. Commands that compute first re-execute the process with huge pages enabled (`process.execve`); Node.js before 22.15 lacks
 * that call and continues without.
 */
import { withHugePages } from '../engine/huge-pages.js';

const [, main, command = '-', ...args] = process.argv;
const computes = !command.startsWith('-') && command !== 'help';
const environment = withHugePages(process.env);
if (computes && process.execve && environment !== process.env) {
  const words = [process.execPath, ...process.execArgv, main!, command, ...args];
  process.execve(process.execPath, words, environment);
}
await import('./program.js');
