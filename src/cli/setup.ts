/** `heddle setup`: downloads what a device needs. */
import { createInterface } from 'node:readline/promises';
import { Argument, type Command } from 'commander';
import { heddleCall } from '../command-line.js';
import { ensureKoffi } from '../engine/cuda-libraries.js';
import { indexSource, setupCuda } from '../hub/index.js';
import { DownloadProgress, say } from './download-progress.js';
import { formatBytes } from './format.js';
import { abortedByPerson } from './interrupt.js';

interface SetupOptions {
  yes?: boolean;
  indexUrl?: string;
}

/** Arguments, options and action of `heddle setup`. */
export function configure(command: Command): void {
  command
    .addArgument(new Argument('<device>', 'what is set up').choices(['cuda']))
    .option('-y, --yes', 'do not ask')
    .option(
      '--index-url <address>',
      "the Python package index that the libraries come from (default: PIP_INDEX_URL, or pip's own)",
    )
    .action(run);
}

async function run(_device: string, options: SetupOptions): Promise<void> {
  const signal = abortedByPerson();
  const index = indexSource(options.indexUrl);
  const progress = new DownloadProgress();
  let asked = false;
  try {
    const { outcome, folder } = await setupCuda({
      index,
      signal,
      onEvent: (event) => {
        if (event.event !== 'asking') progress.show(event);
        else if (!asked)
          progress.tell(`asking ${new URL(index.endpoint).host} for XLA and the CUDA libraries`);
        asked = true;
      },
      confirm: async ({ wheels, bytes, missingBytes, folder }) => {
        progress.tell(
          `${wheels} packages by JAX and NVIDIA, ${formatBytes(bytes)}, unpacked into ${folder} (about ${formatBytes(2 * bytes)}); NVIDIA's license terms are in them`,
        );
        if (missingBytes < bytes)
          progress.tell(`${formatBytes(missingBytes)} of these are still to download`);
        return options.yes === true || (await agrees());
      },
    });
    progress.end();
    if (outcome === 'declined') {
      say('nothing was downloaded');
      process.exitCode = 1;
      return;
    }
    await ensureKoffi();
    say(outcome === 'present' ? `complete already: ${folder}` : `done: ${folder}`);
    say(`next:  ${heddleCall('devices')}`);
  } catch (error) {
    progress.end();
    if (!signal.aborted) throw error;
    say('interrupted: what was downloaded is kept. Go on with the same command.');
    process.exitCode = 130;
  }
}

/** Asks for consent, which needs a terminal. */
async function agrees(): Promise<boolean> {
  if (process.stdin.isTTY !== true) {
    say('to go on without being asked: --yes');
    return false;
  }
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await terminal.question('download them? [Y/n] ');
    return /^(y(es)?)?$/i.test(answer.trim());
  } finally {
    terminal.close();
  }
}
