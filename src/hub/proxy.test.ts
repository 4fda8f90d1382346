/** Proxies of the environment, tested with a proxy that records its requests. */
import { createServer, request, type Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { HubError } from '../errors.js';
import { Connection } from './connection.js';
import { PATIENCE } from './patience.js';
import { fetchThroughProxies } from './proxy.js';

let proxy: Server;
let target: Server;
let open: Set<Socket>;
let asked: string[];
let authorization: string | undefined;
const addressOf = (server: Server): string => `127.0.0.1:${(server.address() as AddressInfo).port}`;

beforeEach(async () => {
  asked = [];
  authorization = undefined;
  target = createServer((_, response) => response.end('here'));
  proxy = createServer((incoming, response) => {
    asked.push(`${incoming.method} ${incoming.url}`);
    authorization = incoming.headers['proxy-authorization'];
    request({ host: '127.0.0.1', port: (target.address() as AddressInfo).port }, (answer) => {
      response.writeHead(answer.statusCode!);
      answer.pipe(response);
    }).end();
  });
  proxy.on('connect', (incoming, socket) => {
    asked.push(`CONNECT ${incoming.url}`);
    const [host, port] = incoming.url!.split(':');
    const onward = connect(Number(port), host, () => socket.write('HTTP/1.1 200 OK\r\n\r\n'));
    onward.on('error', () => socket.destroy());
    socket.on('error', () => onward.destroy());
    onward.pipe(socket).pipe(onward);
  });
  // `server.close` does not close the sockets of tunnels.
  open = new Set();
  for (const server of [proxy, target]) {
    server.on('connection', (socket) => open.add(socket));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  }
});
afterEach(async () => {
  for (const socket of open) socket.destroy();
  for (const server of [proxy, target]) {
    await new Promise((resolve) => server.close(resolve));
  }
});

async function textOf(url: string, environment: Record<string, string>): Promise<string> {
  const send = await fetchThroughProxies(environment);
  return (await send(new URL(url), { redirect: 'manual' })).text();
}

test.each<[string, (address: string) => Record<string, string>]>([
  ['HTTP_PROXY', (address) => ({ HTTP_PROXY: `http://${address}` })],
  [
    'http_proxy before HTTP_PROXY',
    (address) => ({ http_proxy: `http://${address}`, HTTP_PROXY: 'http://none:1' }),
  ],
  ['ALL_PROXY', (address) => ({ ALL_PROXY: `http://${address}` })],
  ['an address without its scheme', (address) => ({ HTTP_PROXY: address })],
  ['another host in NO_PROXY', (address) => ({ HTTP_PROXY: address, NO_PROXY: 'localhost,.example.org' })],
])('http addresses by %s', async (_, environment) => {
  expect(await textOf('http://hub.invalid/a', environment(addressOf(proxy)))).toBe('here');
  expect(asked).toEqual(['GET http://hub.invalid/a']);
});

test('https requests use a tunnel', async () => {
  const port = addressOf(target).split(':')[1];
  // The target does not speak TLS, so the tunnel comes about and the request does not.
  await expect(
    textOf(`https://127.0.0.1:${port}/`, { HTTPS_PROXY: `http://${addressOf(proxy)}` }),
  ).rejects.toThrow();
  expect(asked).toEqual([`CONNECT 127.0.0.1:${port}`]);
});

test.each([
  [407, /^the proxy refused to connect to hub\.invalid \(status 407\)\. It asks for a name and a password/],
  [403, /^the proxy refused to connect to hub\.invalid \(status 403\)\. Check HTTPS_PROXY/],
  [502, /^the proxy refused to connect to hub\.invalid \(status 502\)/],
])('a proxy that refuses a tunnel with status %i is named', async (status, words) => {
  proxy.removeAllListeners('connect');
  proxy.on('connect', (_, socket) => socket.end(`HTTP/1.1 ${status} No\r\n\r\n`));
  vi.stubEnv('HTTPS_PROXY', `http://${addressOf(proxy)}`);
  vi.stubEnv('NO_PROXY', '');
  vi.stubEnv('no_proxy', '');
  vi.stubEnv('https_proxy', '');
  const source = { endpoint: 'https://hub.invalid', setting: 'x', otherwise: 'x', refusal: () => undefined };
  const connection = new Connection(source, PATIENCE, undefined, () => {});
  const asked = connection.persist(() => connection.get('https://hub.invalid/a'));
  await expect(asked).rejects.toThrow(HubError);
  await expect(asked).rejects.toThrow(words);
  vi.unstubAllEnvs();
});

test('the proxy gets its user name and password', async () => {
  await textOf('http://hub.invalid/', { HTTP_PROXY: `http://ada:love%20lace@${addressOf(proxy)}` });
  expect(authorization).toBe(`Basic ${Buffer.from('ada:love lace').toString('base64')}`);
});

test.each<[string, (host: string) => Record<string, string>]>([
  ['no variable', () => ({})],
  ['empty ones', () => ({ HTTP_PROXY: '', https_proxy: ' ' })],
  ['the host in NO_PROXY', (host) => ({ HTTP_PROXY: addressOf(proxy), NO_PROXY: `other,${host}` })],
  ['all hosts in NO_PROXY', () => ({ HTTP_PROXY: addressOf(proxy), no_proxy: '*' })],
])('directly with %s', async (_, environment) => {
  const host = addressOf(target);
  expect(await textOf(`http://${host}/`, environment(host))).toBe('here');
  expect(asked).toEqual([]);
});

describe('a proxy that cannot be used is an error', () => {
  test.each<[string, Record<string, string>, RegExp]>([
    ['SOCKS', { ALL_PROXY: 'socks5://127.0.0.1:1080' }, /not a SOCKS proxy/],
    ['no address', { HTTPS_PROXY: 'http://' }, /HTTPS_PROXY is not the address of a proxy/],
  ])('%s', async (_, environment, message) => {
    const error = await fetchThroughProxies(environment).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(HubError);
    expect((error as Error).message).toMatch(message);
  });

  test('that does not show its password', async () => {
    const error = await fetchThroughProxies({ HTTP_PROXY: 'ftp://ada:secret@x' }).catch(
      (error: unknown) => error,
    );
    expect((error as Error).message).not.toContain('secret');
  });
});
