/** The user's cache folder: files that can be downloaded or computed again. */
import { homedir } from 'node:os';
import { join } from 'node:path';

/** Heddle's folder in the user's cache; it need not exist. */
export function userCache(): string {
  return join(base(), 'heddle');
}

function base(): string {
  const { env, platform } = process;
  if (platform === 'win32') return env.LOCALAPPDATA ?? join(homedir(), 'AppData', 'Local');
  if (platform === 'darwin') return join(homedir(), 'Library', 'Caches');
  return env.XDG_CACHE_HOME || join(homedir(), '.cache');
}
