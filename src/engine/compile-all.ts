/** Compiles several programs, or none. */
import type { Executable } from './program.js';

/** Compiles programs one after the other. If one fails, those compiled before it are disposed of. */
export async function compileAll<T extends Executable>(
  ...programs: readonly (() => Promise<T>)[]
): Promise<T[]> {
  const compiled: T[] = [];
  try {
    for (const compile of programs) compiled.push(await compile());
    return compiled;
  } catch (error) {
    for (const executable of compiled) await executable.dispose();
    throw error;
  }
}
