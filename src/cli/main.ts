#!/usr/bin/env node
/**
 * The `heddle` command. Before it computes it has its process begin anew with memory in huge pages; Node.js before 22.15
 * cannot, and goes on as it is.
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
