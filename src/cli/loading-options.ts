/** Options of all commands that load a model to run it. */
import { type Command, Option } from 'commander';
import { positive } from '../bench/positive.js';
import type { DeviceName } from '../engine/index.js';
import { type LanguageModel, type LoadOptions, loadModel } from '../generate/index.js';
import type { Precision } from '../graph/index.js';
import { checkpointFolder, QUANTIZED_BLOCK, SHIPPED_MODEL } from '../models/index.js';
import { CACHE_FORMS, type CacheForm } from '../nn/index.js';
import { type Bits, bitsFrom } from './bits.js';

/** What the argument `<model>` of every command takes, for its help. */
export const MODEL_HELP = `a model's folder, that of a training run, or ${SHIPPED_MODEL}, which comes along`;

/** What the person gave; the rest is absent. */
export interface LoadingFlags {
  device?: DeviceName;
  threads?: number;
  precision?: Precision;
  adapter?: string;
  quantize?: Bits;
  cache?: CacheForm;
}

/** Adds the options of commands that load a model. */
export function addLoadingOptions(command: Command): Command {
  return command
    .addOption(threadsOption())
    .addOption(precisionOption())
    .addOption(adapterOption())
    .addOption(
      new Option(
        '--quantize <bits>',
        'quantize the weights while they are read: int4 or int8, and bits of the layers of a letter, as in int4,S=8',
      ).argParser(bitsFrom),
    )
    .addOption(
      new Option('--cache <type>', 'keep keys and values in 16 or 8 bits a number, instead of 32').choices(
        CACHE_FORMS,
      ),
    );
}

/** The option `--adapter`. */
export function adapterOption(): Option {
  return new Option(
    '--adapter <folder>',
    'an adapter that was trained on the model (LoRA, as PEFT stores it), or the run that trained it',
  );
}

/** What reads and writes. */
export function deviceOption(): Option {
  return new Option('--device <name>', 'what computes')
    .choices(['cpu', 'wasm', 'webgpu', 'cuda'])
    .default('cpu');
}

/** What trains. */
export function trainingDeviceOption(): Option {
  return new Option('--device <name>', 'what computes').choices(['cpu', 'webgpu', 'cuda']).default('cpu');
}

/** The option `--precision`. */
export function precisionOption(): Option {
  return new Option(
    '--precision <type>',
    'precision in which cuda multiplies matrices (default: bfloat16)',
  ).choices(['bfloat16', 'float32']);
}

/** The option `--threads`. */
export function threadsOption(): Option {
  return new Option('--threads <n>', 'threads on the cpu (default: one a core)').argParser(positive);
}

/** The folder of the adapter that was named. */
export function adapterFolder({ adapter }: Pick<LoadingFlags, 'adapter'>): string | undefined {
  return adapter === undefined ? undefined : checkpointFolder(adapter);
}

/** Tells once that a GPU's programs are compiled: they are kept on disk, so that it is told the first time alone. */
export function compilingLine(): () => void {
  let told = false;
  return () => {
    if (!told)
      process.stderr.write('compiling for the GPU: seconds for each program, the first time alone\n');
    told = true;
  };
}

/** Loads a model as the person wants it; what it cannot do as well as it might is told. Throws as `loadModel` does. */
export function loadAsAsked(folder: string, flags: LoadingFlags): Promise<LanguageModel> {
  const notice = (text: string): void => void process.stderr.write(`${text}\n`);
  return loadModel(folder, { ...loadOptions(flags), notice, onCompile: compilingLine() });
}

/** For `loadModel`, here or in another thread. */
export function loadOptions({
  device,
  threads,
  precision,
  adapter,
  quantize,
  cache,
}: LoadingFlags): LoadOptions {
  return {
    ...(device !== undefined && { device }),
    ...(threads !== undefined && { threads }),
    ...(precision !== undefined && { precision }),
    ...(adapter !== undefined && { adapter }),
    ...(quantize !== undefined && { quantize: { block: QUANTIZED_BLOCK, ...quantize } as const }),
    ...(cache !== undefined && { cache }),
  };
}
