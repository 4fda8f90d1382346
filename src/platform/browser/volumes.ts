/** Which volume a path lies on: below `/memory` in memory, everything else where the browser keeps it. */
import { MemoryVolume } from './memory-volume.js';
import { join } from './paths.js';
import { PrivateVolume } from './private-volume.js';
import type { Volume } from './volume.js';

/** What begins paths of files in memory. */
export const MEMORY = '/memory';

/** The volume of the paths that are kept in memory. */
export const memory = new MemoryVolume(MEMORY);

let kept: Promise<Volume> | undefined;

/** The volume of a path, and the path in one form. */
export async function placeOf(path: string): Promise<{ volume: Volume; path: string }> {
  const at = join(path);
  if (at === MEMORY || at.startsWith(`${MEMORY}/`)) return { volume: memory, path: at };
  kept ??= keptVolume();
  return { volume: await kept, path: at };
}

/** Whether the browser keeps files, beyond the page's life. */
export async function keepsFiles(): Promise<boolean> {
  return (await placeOf('/')).volume !== memory;
}

/** Browsers keep none in private windows, and for pages that did not come over a secure connection. */
async function keptVolume(): Promise<Volume> {
  try {
    return new PrivateVolume(await navigator.storage.getDirectory());
  } catch {
    return memory;
  }
}
