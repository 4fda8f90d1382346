/** Connections to Valkey or Redis. */
import { Redis } from 'iovalkey';

/** Timeout of connecting, in milliseconds. */
const CONNECTING = 10_000;

/** Limits for a store that cannot be reached. */
export interface ValkeyPatience {
  /** Timeout of a command in milliseconds; default: 10,000. */
  readonly command?: number;
  /** Reconnections for a command after a lost connection; null for any number within its timeout. Default: 2. */
  readonly retries?: number | null;
}

/**
 * A client of the store at an address (`redis://host:6379/0`, `valkey://...`, or with TLS), which connects with its first command. Each
 * command rejects if the store cannot be reached.
 */
export function connectValkey(
  address: string,
  { command = 10_000, retries = 2 }: ValkeyPatience = {},
): Redis {
  const client = new Redis(address.replace(/^valkey/, 'redis'), {
    lazyConnect: true,
    connectTimeout: CONNECTING,
    commandTimeout: command,
    maxRetriesPerRequest: retries,
  });
  // Each command reports its own failure.
  client.on('error', () => {});
  return client;
}
