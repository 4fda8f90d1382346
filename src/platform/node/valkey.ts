/** Connections to Valkey or Redis. */
import { Redis } from 'iovalkey';

/** Milliseconds until a connection is given up. */
const CONNECTING = 10_000;

/** What a connection does where the store cannot be reached. */
export interface ValkeyPatience {
  /** Milliseconds that a command may take; ten seconds by default. */
  readonly command?: number;
  /** How often a lost connection is made again for a command; null for as often as its time allows. Twice by default. */
  readonly retries?: number | null;
}

/**
 * A client of the store at an address (`redis://host:6379/0`, `valkey://...`, their kin with TLS), which connects with its first command. Each
 * command rejects where the store cannot be reached.
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
