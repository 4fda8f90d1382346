/** Ending an HTTP server without cutting an answer off. */
import type { Server, ServerResponse } from 'node:http';

/** How often connections are looked at, in milliseconds. */
const INTERVAL = 50;

/**
 * Follows the answers of a server from now on. The function returned ends the server once they have all been sent; what
 * has not been after `patience` milliseconds is cut off.
 */
export function drains(server: Server): (patience: number) => Promise<void> {
  const answers = new Set<ServerResponse>();
  server.on('request', (_, answer) => {
    answers.add(answer);
    answer.once('close', () => answers.delete(answer));
  });
  return async (patience) => {
    const sweep = (): void => {
      // For Node an answer that was ended is as good as sent: closing would cut it off from a client that reads slowly.
      if ([...answers].some((answer) => answer.writableEnded && !answer.writableFinished)) return;
      if (server.listening) server.close();
      // What is kept alive without a request would hold the server open.
      server.closeIdleConnections();
    };
    const closed = new Promise((resolve) => server.once('close', resolve));
    const sweeps = setInterval(sweep, INTERVAL);
    const late = setTimeout(() => server.closeAllConnections(), patience);
    sweep();
    await closed;
    clearInterval(sweeps);
    clearTimeout(late);
  };
}
