/** Graceful shutdown of an HTTP server. */
import type { Server, ServerResponse } from 'node:http';

/** The polling interval in milliseconds. */
const INTERVAL = 50;

/**
 * Tracks the responses of a server. The returned function closes the server when all responses are sent, and aborts the remaining ones after
 * `patience` milliseconds.
 */
export function drains(server: Server): (patience: number) => Promise<void> {
  const answers = new Set<ServerResponse>();
  server.on('request', (_, answer) => {
    answers.add(answer);
    answer.once('close', () => answers.delete(answer));
  });
  return async (patience) => {
    const sweep = (): void => {
      // Node considers a response done once it was ended, and closing would cut it off for a client that reads slowly.
      if ([...answers].some((answer) => answer.writableEnded && !answer.writableFinished)) return;
      if (server.listening) server.close();
      // Idle keep-alive connections would keep the server open.
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
