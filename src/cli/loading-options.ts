/** Common options of commands that run a model. */
import { type Command, Option } from 'commander';
import { positive } from '../bench/positive.js';
import type { DeviceName } from '../engine/index.js';
import { ConfigError } from '../errors.js';
import { type LanguageModel, type LoadOptions, loadModel } from '../generate/index.js';
import type { Precision } from '../graph/index.js';
import { checkpointFolder, QUANTIZED_BLOCK, SHIPPED_MODEL } from '../models/index.js';
import { CACHE_FORMS, type CacheForm } from '../nn/index.js';
import { type Bits, bitsFrom } from './bits.js';

/** The help text of the argument `<model>`. */
export const MODEL_HELP = `a model's folder, that of a training run, or ${SHIPPED_MODEL}, which comes along`;

/** The given options; others are absent. */
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

/** The device of inference. */
export function deviceOption(): Option {
  return new Option('--device <name>', 'what computes')
    .choices(['cpu', 'wasm', 'webgpu', 'cuda'])
    .default('cpu');
}

/** The device of training. */
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

/** The folder of the named adapter. */
export function adapterFolder({ adapter }: Pick<LoadingFlags, 'adapter'>): string | undefined {
  return adapter === undefined ? undefined : checkpointFolder(adapter);
}

/** Says once that programs for a GPU are compiled. They are cached on disk, so that happens only the first time. */
export function compilingLine(): () => void {
  let told = false;
  return () => {
    if (!told)
      process.stderr.write('compiling for the GPU: seconds for each program, the first time alone\n');
    told = true;
  };
}

/** Loads a model with the given options, and prints notices of the device. Throws as `loadModel` does. */
export function loadAsAsked(folder: string, flags: LoadingFlags): Promise<LanguageModel> {
  const notice = (text: string): void => void process.stderr.write(`${text}\n`);
  return loadModel(folder, { ...loadOptions(flags), notice, onCompile: compilingLine() });
}

/** Throws `ConfigError` for bfloat16 on another device than cuda: the others multiply matrices in float32, whatever the option says. */
export function expectPrecision(precision: string | undefined, device: string | undefined): void {
  if (precision !== 'bfloat16' || device === undefined || device === 'cuda') return;
  throw new ConfigError(
    `--precision bfloat16 is for --device cuda, and the device is ${device}: leave it out`,
  );
}

/** The options of `loadModel`, for this or another thread. Throws `ConfigError` for a precision that the device does not have. */
export function loadOptions({
  device,
  threads,
  precision,
  adapter,
  quantize,
  cache,
}: LoadingFlags): LoadOptions {
  expectPrecision(precision, device);
  return {
    ...(device !== undefined && { device }),
    ...(threads !== undefined && { threads }),
    ...(precision !== undefined && { precision }),
    ...(adapter !== undefined && { adapter }),
    ...(quantize !== undefined && { quantize: { block: QUANTIZED_BLOCK, ...quantize } as const }),
    ...(cache !== undefined && { cache }),
  };
}
