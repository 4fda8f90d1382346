/** Sources of models: as given by a page, and as sent to the worker. */
import { ConfigError } from '../errors.js';

/** A repository of Hugging Face's hub, or of another that speaks its protocol. */
export interface Repository {
  /** `owner/name`; with `:FORMAT` appended, a GGUF file, such as `owner/name:Q4_K_M`. */
  readonly repository: string;
  /** A branch, a tag or a commit; `main` by default. */
  readonly revision?: string;
  /** The hub's address; Hugging Face's by default. */
  readonly hub?: string;
  /** For private and gated repositories. */
  readonly token?: string;
}

/** A folder on a web host, or a GGUF file there. */
export interface Hosted {
  readonly url: string;
  /** All of its files, by name with the hexadecimal SHA-256, or just the names; by default the usual names are tried. Without checksums the files are not verified. */
  readonly files?: Readonly<Record<string, string>> | readonly string[];
  /** An access token, sent as `Authorization: Bearer`. */
  readonly token?: string;
}

/** Files that the user has chosen or dropped: those of a model's folder, or one in GGUF. */
export type Given = Iterable<File> | DataTransfer;

/** A run that was trained in a tab, by its name. */
export interface TrainedRun {
  readonly run: string;
}

/** A string is an address (`https://...`, or a path with a leading or trailing slash) or a repository (`owner/name`). */
export type Source = string | URL | Repository | Hosted | TrainedRun | Given;

/** The same as the worker gets it. */
export type PlainSource =
  | { readonly kind: 'repository'; readonly repository: Repository }
  | ({ readonly kind: 'hosted' } & Hosted)
  | { readonly kind: 'run'; readonly name: string }
  | { readonly kind: 'files'; readonly files: readonly NamedFile[] };

/** A file of a folder that a person chose, with its path in it. */
export interface NamedFile {
  readonly name: string;
  readonly file: File;
}

/** Converts a source to plain data. Throws `ConfigError` for an invalid one. */
export async function plainSource(source: Source): Promise<PlainSource> {
  if (source instanceof URL) return hosted({ url: source.href });
  if (typeof source === 'string') {
    if (isAddress(source)) return hosted({ url: source });
    if (/^[^/\s]+\/[^/\s]+$/.test(source)) return { kind: 'repository', repository: { repository: source } };
    throw new ConfigError(
      `'${source}' is no model: expected the address of its folder (https://... or ./model/), or a repository (owner/name)`,
    );
  }
  if ('repository' in source) return { kind: 'repository', repository: source };
  if ('run' in source) return { kind: 'run', name: source.run };
  if ('url' in source) return hosted(source);
  const files = 'items' in source ? await dropped(source) : [...source].map(named);
  return { kind: 'files', files: modelFiles(files) };
}

/** Whether a text is an address, such as `models/one/`, `./one` or `https://host/one`. */
function isAddress(text: string): boolean {
  return /^(?:[a-z][a-z\d+.-]*:|\.{0,2}\/)/i.test(text) || text.endsWith('/');
}

function hosted({ url, ...more }: Hosted): PlainSource {
  const base = new URL(url, document.baseURI);
  if (!base.pathname.endsWith('/') && !/\.gguf$/i.test(base.pathname)) base.pathname += '/';
  return { ...more, kind: 'hosted', url: base.href };
}

interface Found {
  readonly path: string;
  readonly file: File;
}

function named(file: File): Found {
  return { path: file.webkitRelativePath || file.name, file };
}

/** The files of folders that were dropped. The list is valid during the event only, so all entries are taken at once. */
async function dropped({ items, files }: DataTransfer): Promise<Found[]> {
  const entries = [...items].flatMap((item) => item.webkitGetAsEntry?.() ?? []);
  if (entries.length === 0) return [...files].map(named);
  return (await Promise.all(entries.map(filesIn))).flat();
}

async function filesIn(entry: FileSystemEntry): Promise<Found[]> {
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) =>
      (entry as FileSystemFileEntry).file(resolve, reject),
    );
    return [{ path: entry.fullPath, file }];
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const found: Found[] = [];
  for (;;) {
    // `readEntries` returns the entries in batches.
    const entries = await new Promise<FileSystemEntry[]>((resolve, reject) =>
      reader.readEntries(resolve, reject),
    );
    if (entries.length === 0) return found;
    for (const inner of entries) found.push(...(await filesIn(inner)));
  }
}

/** The files of the folder that has a config, or the GGUF file; for a training run, those of its checkpoint. Throws `ConfigError` if there is none. */
function modelFiles(files: readonly Found[]): NamedFile[] {
  const split = files.map(({ path, file }) => {
    const at = path.lastIndexOf('/');
    return { folder: path.slice(0, Math.max(0, at)), name: path.slice(at + 1), file };
  });
  const model =
    split.find(({ name }) => name === 'config.json') ?? split.find(({ name }) => /\.gguf$/i.test(name));
  if (!model) {
    const names = split.map(({ name }) => name).join(', ') || 'nothing';
    throw new ConfigError(
      `there is no config.json and no GGUF file among what was given (${names}): give the folder of a model, or all of its files`,
    );
  }
  return split.filter(({ folder }) => folder === model.folder).map(({ name, file }) => ({ name, file }));
}
