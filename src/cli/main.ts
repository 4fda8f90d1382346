#!/usr/bin/env node
/**
 * The `heddle` command. Before it does anything it has its process begin anew with memory in huge pages; Node.js before 22.15
 * cannot, and goes on as it is.
 */
import { withHugePages } from '../engine/huge-pages.js';

const environment = withHugePages(process.env);
if (process.execve && environment !== process.env) {
  const [, ...args] = process.argv;
  process.execve(process.execPath, [process.execPath, ...process.execArgv, ...args], environment);
}
await import('./program.js');
