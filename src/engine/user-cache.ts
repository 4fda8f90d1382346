/** Where a user's programs keep what can be fetched or computed again. */
import { homedir } from 'node:os';
import { join } from 'node:path';

/** Heddle's folder there; it need not exist. */
export function userCache(): string {
  return join(base(), 'heddle');
}

function base(): string {
  const { env, platform } = process;
  if (platform === 'win32') return env.LOCALAPPDATA ?? join(homedir(), 'AppData', 'Local');
  if (platform === 'darwin') return join(homedir(), 'Library', 'Caches');
  return env.XDG_CACHE_HOME || join(homedir(), '.cache');
}
