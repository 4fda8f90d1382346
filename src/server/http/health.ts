/** The health check, which asks the engine's thread. */
import type { Deps } from './context.js';
import type { Health } from './schemas.js';

/** The timeout of the engine's response in milliseconds. The engine responds between chunks of work. */
const PATIENCE = 5000;

/** The health of the server, including the engine. */
export async function healthOf(
  { status, engine }: Pick<Deps, 'status' | 'engine'>,
  patience = PATIENCE,
): Promise<Health> {
  if (status() !== 'ok') return status();
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), patience);
  try {
    await engine.call('figures', null, late.signal);
    return status();
  } catch {
    return late.signal.aborted ? 'unresponsive' : 'failed';
  } finally {
    clearTimeout(timer);
  }
}
