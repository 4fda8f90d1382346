/** A Redis of the tests' own, where one is installed. */
import { spawn, spawnSync } from 'node:child_process';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Whether this machine has one. */
export const hasRedis = spawnSync('redis-server', ['--version']).status === 0;

/** Starts an empty one, and answers with its address (`redis://127.0.0.1:PORT/0`) and what ends it. */
export async function startRedis(): Promise<{ url: string; stop(): Promise<void> }> {
  const socket = createServer().listen(0, '127.0.0.1');
  const { port } = await new Promise<AddressInfo>((resolve) =>
    socket.on('listening', () => resolve(socket.address() as AddressInfo)),
  );
  await new Promise((resolve) => socket.close(resolve));
  const process = spawn('redis-server', ['--port', String(port), '--save', '', '--bind', '127.0.0.1'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  await new Promise<void>((resolve) =>
    process.stdout!.on('data', (text: Buffer) => {
      if (String(text).includes('Ready to accept connections')) resolve();
    }),
  );
  return {
    url: `redis://127.0.0.1:${port}/0`,
    async stop() {
      const gone = new Promise((resolve) => process.on('close', resolve));
      process.kill();
      await gone;
    },
  };
}
