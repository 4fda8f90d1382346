/** `heddle quantize`: writes a model with quantized matrices. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { writeFolderAtomic } from '../checkpoint/index.js';
import { StorageError } from '../errors.js';
import {
  copyCompanions,
  countParameters,
  fittingBlocks,
  modelFolder,
  modelName,
  parametersOf,
  QUANTIZED_BITS,
  QUANTIZED_BLOCK,
  QUANTIZED_BLOCKS,
  type Quantization,
  quantizeWeights,
  readModel,
  weightBytes,
  writeQuantized,
} from '../models/index.js';
import { type Bits, bitsFrom } from './bits.js';
import { formatBytes, formatCount } from './format.js';
import { leavingNothing } from './interrupt.js';
import { MODEL_HELP } from './loading-options.js';
import { choice } from './options.js';

interface QuantizeFlags {
  bits: Bits;
  block: string;
  out?: string;
}

/** Arguments, options and action of `heddle quantize`. */
export function configure(command: Command): void {
  command
    .argument('<model>', MODEL_HELP)
    .option(
      '--bits <n>',
      `bits of a number: ${QUANTIZED_BITS.join(', ')}; and of the layers of a letter, as in 4,S=8,M=4 (32 leaves them as they are) (default: 4)`,
      bitsFrom,
      { bits: 4 } as Bits,
    )
    .option(
      '--block <n>',
      `numbers that share a scale: ${QUANTIZED_BLOCKS.join(', ')}; fewer are more exact and larger`,
      choice(names(QUANTIZED_BLOCKS)),
      String(QUANTIZED_BLOCK),
    )
    .option('--out <folder>', 'where to (default: beside the model, such as my-model-int4)')
    .action(run);
}

/** The default output: a folder next to the model's; for the shipped model, whose folder is in the package, one in the working directory. */
function besides(name: string, what: string): string {
  return existsSync(name) ? `${resolve(name)}-${what}` : `${modelName(name)}-${what}`;
}

function names(numbers: readonly number[]): string[] {
  return numbers.map(String);
}

async function run(name: string, flags: QuantizeFlags): Promise<void> {
  const asked = { ...flags.bits, block: Number(flags.block) } as Quantization;
  const out = flags.out ?? besides(name, `int${asked.bits}`);
  if (existsSync(out))
    throw new StorageError(`${out} is there already: name a folder that is not with --out`);
  const folder = modelFolder(name);
  const model = await readModel(folder);
  const quantization = fittingBlocks(model, asked);
  if (quantization.block !== asked.block) {
    process.stderr.write(
      `blocks of ${quantization.block}: rows of ${model.hiddenSize} do not fill blocks of ${asked.block}\n`,
    );
  }
  const live = process.stderr.isTTY === true;
  const weights = await quantizeWeights(folder, model, quantization, (share) => {
    if (live) process.stderr.write(`\r\x1b[Kquantizing: ${Math.floor(100 * share)} %`);
  });
  if (live) process.stderr.write('\r\x1b[K');
  await leavingNothing(() =>
    writeFolderAtomic(out, async (temporary) => {
      await writeQuantized(temporary, model, quantization, weights);
      await copyCompanions(folder, temporary);
    }),
  );
  const bytes = [...weights.values()].reduce((sum, weight) => sum + weightBytes(weight), 0);
  const parameters = countParameters(parametersOf(model));
  process.stderr.write(
    `${out}: ${formatCount(parameters)} parameters in ${formatBytes(bytes)}, ${((8 * bytes) / parameters).toFixed(2)} bits each (float32 would take ${formatBytes(4 * parameters)})\n`,
  );
}
