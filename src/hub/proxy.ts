/**
 * Requests through the proxies of the environment, with the rules of curl and pip: `HTTP_PROXY` for http addresses,
 * `HTTPS_PROXY` for https (default: `HTTP_PROXY`), `ALL_PROXY` for both, and `NO_PROXY` for hosts that are requested
 * directly. The lower-case name of a variable takes precedence. Node's own `fetch` ignores all of them before Node 24.
 */
import { HubError } from '../errors.js';

/** The part of `fetch` that is used. */
type Fetch = (url: URL, options: RequestInit) => Promise<Response>;

/** Clients by the values of the variables, so that connections are reused. */
const chosen = new Map<string, Promise<Fetch>>();

/** `fetch` through the proxies of the environment, if any are set. Throws `HubError` for one that cannot be used. */
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
  // If an address were missing, the agent would read the environment itself, and it ignores ALL_PROXY.
  // Plain http is not tunnelled: many proxies refuse tunnels to ports other than 443.
  const addresses = { httpProxy: http, httpsProxy: https || http, noProxy };
  const dispatcher = new EnvHttpProxyAgent({ ...addresses, proxyTunnel: false });
  // The types of Node's `fetch` and undici's differ, but their behaviour is the same.
  return (url, options) => send(url, { ...(options as object), dispatcher }) as unknown as Promise<Response>;
}

/** The address of a proxy, with a scheme added if it has none. */
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
