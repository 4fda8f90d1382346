/**
 * Queries a Python package index with the protocol of pip (PEP 503 and 691) for the wheel of one version of a package that fits
 * this machine. The names of wheels follow PEP 427 and 600.
 */
import { z } from 'zod';
import { quote } from '../../checkpoint/index.js';
import { HubError } from '../../errors.js';
import type { Connection, Source } from '../connection.js';
import type { RemoteFile } from '../sums.js';

/** pip's own default. */
const DEFAULT_INDEX = 'https://pypi.org/simple';

const LARGEST_PAGE = 2 ** 26;

/** A platform in the terms of wheels: the processor, and the newest glibc version that a wheel may have been built for. */
export interface Platform {
  readonly machine: string;
  readonly glibc: readonly [major: number, minor: number];
}

/** A wheel listed by a Python package index. */
export interface Wheel extends RemoteFile {
  readonly url: string;
}

/** The `Source` of a package index: the given address, else `PIP_INDEX_URL`, else pip's default. A user name and password in the address are sent to that index only. Throws `HubError` for a malformed address. */
export function indexSource(given: string | undefined, environment: NodeJS.ProcessEnv = process.env): Source {
  const address = given?.trim() || environment.PIP_INDEX_URL?.trim() || DEFAULT_INDEX;
  const setting = given === undefined ? 'PIP_INDEX_URL' : '--index-url';
  const url = URL.canParse(address) ? new URL(address) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    throw new HubError(
      `${setting} is not the address of a package index. Expected one such as ${DEFAULT_INDEX}, as pip takes it.`,
    );
  }
  const { username, password } = url;
  const login = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  return {
    endpoint: `${url.origin}${url.pathname}`.replace(/\/+$/, ''),
    ...(login === ':' ? {} : { authorization: `Basic ${Buffer.from(login).toString('base64')}` }),
    accept: 'application/vnd.pypi.simple.v1+json, text/html;q=0.2, */*;q=0.1',
    setting,
    otherwise: `Another index can be named by ${setting}, and a proxy by HTTPS_PROXY.`,
    refusal: ({ status, url: asked }) => {
      if (status === 401 || status === 403) {
        return new HubError(
          `${url.host} refuses access (${status}): put the user name and password into ${setting}, in the form that pip takes.`,
        );
      }
      // This is called for package pages and for files alike; `asked` says which was missing.
      return status === 404
        ? new HubError(`${url.host} has no ${asked} (404). Name another index by ${setting}.`)
        : undefined;
    },
  };
}

const Page = z.looseObject({
  files: z.array(
    z.looseObject({
      filename: z.string(),
      url: z.string(),
      hashes: z.looseObject({ sha256: z.string().optional() }),
      size: z.int().nonnegative().nullish(),
    }),
  ),
});

interface Listed {
  readonly filename: string;
  readonly url: string;
  readonly sha256: string | undefined;
  readonly size: number | undefined;
}

/** Finds the wheel of one version of a package for a platform. Throws `HubError` when the index has none or its response is malformed. */
export async function findWheel(
  connection: Connection,
  { endpoint, setting }: Source,
  [name, version]: readonly [string, string],
  platform: Platform,
): Promise<Wheel> {
  const page = `${endpoint}/${name}/`;
  const { text, headers } = await connection.persist(() => connection.text(page, LARGEST_PAGE));
  const listed = readPage(text, headers, page);
  if (!listed) {
    throw new HubError(
      `${connection.host} answered with ${quote(headers.get('content-type') ?? text)}, expected the list of the files of ${name}. A network's login page or a wrong ${setting} does that: look at ${page} in a browser.`,
    );
  }
  const fitting = listed
    .flatMap((file) => {
      const rank = rankOf(file.filename, name, version, platform);
      return rank === undefined ? [] : [{ file, rank }];
    })
    .sort((a, b) => b.rank - a.rank);
  const found = fitting[0]?.file;
  if (!found) {
    throw new HubError(
      `${connection.host} has no file of ${name} ${version} for Linux on ${platform.machine} with glibc ${platform.glibc.join('.')}. Name another index by ${setting}, or install JAX's plugin by hand and set HEDDLE_PJRT_PLUGIN.`,
    );
  }
  const { filename, url, sha256 } = found;
  if (sha256 === undefined || !/^[0-9a-f]{64}$/.test(sha256)) {
    throw new HubError(
      `${connection.host} gives no SHA-256 for ${filename}, and a file that cannot be checked is not used. Name another index by ${setting}.`,
    );
  }
  const size = found.size ?? (await sizeOf(connection, url));
  return { name: filename, url, size, sum: { kind: 'sha256', hex: sha256 } };
}

/** Parses a package page in JSON (PEP 691), or in HTML (PEP 503) from an older index. */
function readPage(text: string, headers: Headers, page: string): Listed[] | undefined {
  const absolute = (url: string): string => (URL.canParse(url, page) ? new URL(url, page).href : page);
  try {
    return Page.parse(JSON.parse(text)).files.map(({ filename, url, hashes, size }) => ({
      filename,
      url: absolute(url),
      sha256: hashes.sha256?.toLowerCase(),
      size: size ?? undefined,
    }));
  } catch {
    if (!/html/.test(headers.get('content-type') ?? '')) return undefined;
  }
  const links = [...text.matchAll(/<a\s[^>]*?href\s*=\s*["']([^"']+)["'][^>]*>([^<]*)<\/a>/gi)];
  const files = links.map(([, href, label]) => {
    const url = new URL(absolute(href!.replaceAll('&amp;', '&')));
    const sha256 = /^#sha256=([0-9a-f]{64})$/i.exec(url.hash)?.[1]?.toLowerCase();
    url.hash = '';
    return { filename: label!.trim(), url: url.href, sha256, size: undefined };
  });
  // A login page may contain links too, but none to packages.
  return files.some(({ filename }) => /\.(whl|tar\.gz|zip)$/.test(filename)) ? files : undefined;
}

/** A file's size, for an index that does not list it. */
async function sizeOf(connection: Connection, url: string): Promise<number> {
  const answer = await connection.persist(() => connection.get(url));
  answer.discard();
  const length = Number(answer.headers.get('content-length') ?? Number.NaN);
  if (Number.isSafeInteger(length)) return length;
  throw new HubError(
    `${answer.host} does not say how large ${url} is. Try again later, or name another index.`,
  );
}

/**
 * Rank of a file: higher for a newer required glibc. Undefined if it is another package, version or platform, or not a wheel for
 * every Python 3.
 */
function rankOf(filename: string, name: string, version: string, platform: Platform): number | undefined {
  const parts = /^(.+?)-(.+?)(?:-\d[^-]*)?-([^-]+)-([^-]+)-([^-]+)\.whl$/.exec(filename);
  if (!parts) return undefined;
  const [, itsName, itsVersion, python, abi, tags] = parts as unknown as string[];
  if (normal(itsName!) !== normal(name) || itsVersion !== version) return undefined;
  if (!python!.split('.').includes('py3') || abi !== 'none') return undefined;
  const ranks = tags!.split('.').flatMap((tag) => {
    const glibc = glibcOf(tag, platform.machine);
    return glibc === undefined || glibc > versionNumber(platform.glibc) ? [] : [glibc];
  });
  return ranks.length === 0 ? undefined : Math.max(...ranks);
}

/** The glibc version that a platform tag requires, as a number; 0 if it requires none. Undefined for another platform. */
function glibcOf(tag: string, machine: string): number | undefined {
  if (tag === 'any' || tag === `linux_${machine}`) return 0;
  if (!tag.endsWith(`_${machine}`)) return undefined;
  const kind = tag.slice(0, -machine.length - 1);
  const [, major, minor] = /^manylinux_(\d+)_(\d+)$/.exec(ALIASES[kind] ?? kind) ?? [];
  return major === undefined ? undefined : versionNumber([Number(major), Number(minor)]);
}

const ALIASES: Readonly<Record<string, string>> = {
  manylinux1: 'manylinux_2_5',
  manylinux2010: 'manylinux_2_12',
  manylinux2014: 'manylinux_2_17',
};

function versionNumber([major, minor]: readonly [number, number]): number {
  return major * 1000 + minor;
}

function normal(name: string): string {
  return name.toLowerCase().replace(/[-_.]+/g, '-');
}
