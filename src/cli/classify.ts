/** `heddle classify`: says which class each file is of. */
import type { Command } from 'commander';
import type { DeviceName } from '../engine/index.js';
import { DataError } from '../errors.js';
import { loadModel } from '../generate/index.js';
import { say } from './follow-run.js';
import { quote } from './format.js';
import { deviceOption, threadsOption } from './loading-options.js';

interface ClassifyFlags {
  resize: boolean;
  device: DeviceName;
  threads?: number;
}

/** Arguments, options and action of `heddle classify`. */
export function configure(command: Command): void {
  command
    .argument('<model>', 'the folder of a model of images or sounds, or of its training run')
    .argument('<files...>', 'PNG or JPEG files, or WAV files')
    .option('--resize', 'stretch images of another size to the one that the model reads', false)
    .addOption(deviceOption())
    .addOption(threadsOption())
    .action(run);
}

/** Writes CSV to standard output: a line a file. A file that cannot be read is told, and the others are read. */
async function run(folder: string, paths: readonly string[], flags: ClassifyFlags): Promise<void> {
  const { resize, device, threads } = flags;
  const classifier = await loadModel(folder, {
    kind: ['images', 'sounds'],
    device,
    ...(threads !== undefined && { threads }),
  });
  process.stdout.write('file,class,probability\n');
  for (const path of paths) {
    try {
      const said = await classifier.classify(path, { resize });
      process.stdout.write(`${quote(path)},${quote(said.class)},${said.probability.toFixed(4)}\n`);
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
      say(`heddle: ${error.message}`);
      process.exitCode = 1;
    }
  }
  await classifier.dispose();
}
