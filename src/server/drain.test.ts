import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { drains } from './drain.js';

const SIZE = 30_000_000;
const open: { destroy(): void }[] = [];
afterEach(() => {
  for (const each of open.splice(0)) each.destroy();
});

async function listen(
  answer: RequestListener,
): Promise<{ server: Server; port: number; drain: (patience: number) => Promise<void> }> {
  const server = createServer(answer);
  const drain = drains(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  open.push({ destroy: () => server.closeAllConnections() });
  return { server, port: (server.address() as AddressInfo).port, drain };
}

function ask(port: number): Socket {
  const client = connect(port, '127.0.0.1');
  open.push(client);
  client.write('GET / HTTP/1.1\r\nHost: here\r\n\r\n');
  return client;
}

test('what was ended still reaches a client that reads slowly', async () => {
  const { server, port, drain } = await listen((_, answer) => answer.end('x'.repeat(SIZE)));
  const client = ask(port);
  await once(client, 'readable');
  let drained = false;
  const drainage = drain(60_000).then(() => {
    drained = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(drained).toBe(false);
  let got = 0;
  client.on('data', (data) => {
    got += data.length;
  });
  await drainage;
  if (!client.closed) await once(client, 'close');
  expect(got).toBeGreaterThan(SIZE);
  expect(server.listening).toBe(false);
});

test('a client that reads nothing is cut off in the end', async () => {
  const { port, drain } = await listen((_, answer) => answer.end('x'.repeat(SIZE)));
  const client = ask(port);
  await once(client, 'readable');
  await drain(200);
  client.resume().on('error', () => {});
  await once(client, 'close');
  expect(client.bytesRead).toBeLessThan(SIZE);
});

test('connections that are kept alive do not hold the server open', async () => {
  const { port, drain } = await listen((_, answer) => answer.end('done'));
  const client = ask(port);
  await once(client, 'data');
  await drain(60_000);
  if (!client.closed) await once(client, 'close');
});
