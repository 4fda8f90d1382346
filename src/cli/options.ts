/** Readers of command-line values; a wrong one is told with what was expected. */
import { InvalidArgumentError, Option } from 'commander';
import { positive } from '../bench/positive.js';

export function wholeNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isInteger(value) || value < 0) {
    throw new InvalidArgumentError('expected a whole number, 0 or more.');
  }
  return value;
}

export function number(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('expected a number.');
  return value;
}

export function adapterOption(): Option {
  return new Option(
    '--adapter <folder>',
    'an adapter that was trained on the model (LoRA, as PEFT stores it)',
  );
}

export function threadsOption(): Option {
  return new Option('--threads <n>', 'threads on the cpu (default: one a core)').argParser(positive);
}

export function quantizeOption(): Option {
  return new Option('--quantize <type>', 'quantize the weights while they are read').choices([
    'int4',
    'int8',
  ]);
}

export function choice<T extends string>(allowed: readonly T[]): (text: string) => T {
  return (text) => {
    if (!allowed.includes(text as T))
      throw new InvalidArgumentError(`expected one of: ${allowed.join(', ')}.`);
    return text as T;
  };
}
