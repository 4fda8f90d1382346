/**
 * Requests through the proxies that the environment names, as curl and pip heed them: `HTTP_PROXY` for http addresses,
 * `HTTPS_PROXY` for https (where it is not set, `HTTP_PROXY` too), `ALL_PROXY` for both, and `NO_PROXY` with the hosts that
 * are asked directly; each also in lower case, which counts first. Node's own `fetch` heeds none of them before Node 24.
 */
import { HubError } from '../errors.js';

/** What is used of `fetch`. */
type Fetch = (url: URL, options: RequestInit) => Promise<Response>;

/** By the variables' values: connections are kept and used again. */
const chosen = new Map<string, Promise<Fetch>>();

/** `fetch`, through the environment's proxies where it names any. Throws `HubError` for one that cannot be used. */
export async function fetchThroughProxies(environment: NodeJS.ProcessEnv = process.env): Promise<Fetch> {
  const value = (name: string): string =>
    (environment[name.toLowerCase()]?.trim() || environment[name]?.trim()) ?? '';
  const all = value('ALL_PROXY');
  const http = withScheme(value('HTTP_PROXY') || all, 'HTTP_PROXY');
  const https = withScheme(value('HTTPS_PROXY') || all, 'HTTPS_PROXY');
  if (http === '' && https === '') return fetch;
  const key = JSON.stringify([http, https, value('NO_PROXY')]);
  const made = chosen.get(key) ?? throughProxies(http, https, value('NO_PROXY'));
  chosen.set(key, made);
  return made;
}

async function throughProxies(http: string, https: string, noProxy: string): Promise<Fetch> {
  const { EnvHttpProxyAgent, fetch: send } = await import('undici');
  // For an absent address the agent would look into the environment itself, where ALL_PROXY is nothing to it.
  // Plain http goes to the proxy as it is: many refuse tunnels to other ports than 443.
  const addresses = { httpProxy: http, httpsProxy: https || http, noProxy };
  const dispatcher = new EnvHttpProxyAgent({ ...addresses, proxyTunnel: false });
  // The types of Node's fetch and of the package's differ, the functions do not.
  return (url, options) => send(url, { ...(options as object), dispatcher }) as unknown as Promise<Response>;
}

/** The address of a proxy, which many write without its scheme. */
function withScheme(address: string, variable: string): string {
  if (address === '') return '';
  const whole = /^[a-z][a-z0-9+.-]*:\/\//i.test(address) ? address : `http://${address}`;
  const protocol = URL.canParse(whole) ? new URL(whole).protocol : '';
  if (protocol === 'http:' || protocol === 'https:') return whole;
  // The address may hold a password, so it is not shown.
  throw new HubError(
    `${variable} is not the address of a proxy that can be used here: expected one such as http://proxy.example:3128${/^socks/.test(protocol) ? ', not a SOCKS proxy' : ''}. Set it so, or name the hub's host in NO_PROXY.`,
  );
}
