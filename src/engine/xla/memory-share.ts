/** How much of a GPU's memory a process may take, where several share the GPU. */
import { DeviceError } from '../../errors.js';
import type { ClientOptions } from './pjrt/options.js';

/**
 * The options of a client that takes this share of a GPU's memory, as it needs it; without one, what `HEDDLE_GPU_MEMORY` says, and else the
 * plugin's own choice: three quarters, at once. Throws `DeviceError` for what is no share: above 0, and 1 at most.
 */
export function memoryShare(
  share: number | undefined,
  environment: NodeJS.ProcessEnv = process.env,
): ClientOptions {
  const named = environment.HEDDLE_GPU_MEMORY?.trim();
  if (share !== undefined) return options(share, 'memoryFraction');
  return named ? options(Number(named), 'HEDDLE_GPU_MEMORY', named) : {};
}

function options(memoryFraction: number, who: string, said = String(memoryFraction)): ClientOptions {
  if (memoryFraction > 0 && memoryFraction <= 1) return { memoryFraction, preallocate: false };
  throw new DeviceError(
    `${who} is ${said}: expected the share of the GPU's memory that this process may take, such as 0.25`,
  );
}
