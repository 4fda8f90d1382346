/** The volume of a path: `/memory` and below are in memory, everything else is in the browser's storage. */
import { MemoryVolume } from './memory-volume.js';
import { join } from './paths.js';
import { PrivateVolume } from './private-volume.js';
import type { Volume } from './volume.js';

/** The prefix of paths in memory. */
export const MEMORY = '/memory';

/** The volume of the paths in memory. */
export const memory = new MemoryVolume(MEMORY);

let kept: Promise<Volume> | undefined;

/** The volume of a path, and the normalized path. */
export async function placeOf(path: string): Promise<{ volume: Volume; path: string }> {
  const at = join(path);
  if (at === MEMORY || at.startsWith(`${MEMORY}/`)) return { volume: memory, path: at };
  kept ??= keptVolume();
  return { volume: await kept, path: at };
}

/** Whether the browser stores files beyond the life of the page. */
export async function keepsFiles(): Promise<boolean> {
  return (await placeOf('/')).volume !== memory;
}

/** The persistent volume, or the one in memory: browsers have no persistent storage in some private windows and in insecure contexts. */
async function keptVolume(): Promise<Volume> {
  try {
    return new PrivateVolume(await navigator.storage.getDirectory());
  } catch {
    return memory;
  }
}
