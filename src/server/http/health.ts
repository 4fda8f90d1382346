/** Whether the server answers, asked of the thread that computes. */
import type { Deps } from './context.js';
import type { Health } from './schemas.js';

/** How long the engine may take to answer at all, in milliseconds. It answers between the pieces of its work. */
const PATIENCE = 5000;

/** Whether requests are answered, as the engine itself says. */
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
