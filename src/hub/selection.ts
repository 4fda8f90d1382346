/**
 * Selects the files of a repository that a model needs: its config, its tokenizer, its weights, its model card and its
 * license.
 *
 * Weights are `model.safetensors`, or else the shards that `model.safetensors.index.json` names. A repository often has the same
 * weights in other formats, layouts or folders too; those are skipped. A GGUF file, which contains everything, is selected when
 * its format, such as Q4_K_M, is given.
 */
import { quote, shardsIn } from '../checkpoint/index.js';
import { HubError } from '../errors.js';
import { isVocabularyFile } from '../text/index.js';
import { isPlainName } from './names.js';
import type { RemoteFile } from './sums.js';

/** An entry at a repository's root; `file` is absent for a folder. */
export interface Entry {
  readonly path: string;
  readonly file?: RemoteFile;
}

/** The files of a repository that make up a model. */
export interface Selection {
  readonly config?: RemoteFile;
  /** Tokenizer, chat template, license, and similar files. */
  readonly small: readonly RemoteFile[];
  /** The weights, or the index that names their shards. */
  readonly weights: RemoteFile;
  /** The other parts of a GGUF file. */
  readonly parts?: readonly RemoteFile[];
}

const CONFIG = 'config.json';
/** The file name of a tokenizer in the format of Hugging Face tokenizers. */
export const TOKENIZER = 'tokenizer.json';
/** The file name of weights in one file. */
export const SINGLE = 'model.safetensors';
/** The file name of the index of weights in several files. */
export const INDEX = 'model.safetensors.index.json';

const SMALL: ReadonlySet<string> = new Set([
  'generation_config.json',
  TOKENIZER,
  'tokenizer_config.json',
  'special_tokens_map.json',
  'chat_template.jinja',
  'chat_template.json',
]);

/** A license or a model card that is larger than this, in bytes, is not downloaded. */
const LARGEST_TEXT = 2 ** 20;

/** Selects the files to download. Throws `HubError`, which lists what the repository has, when it has no model that Heddle can read. */
export function selectFiles(repo: string, entries: readonly Entry[], format?: string): Selection {
  const files = new Map<string, RemoteFile>();
  for (const { path, file } of entries) if (file !== undefined && isPlainName(path)) files.set(path, file);
  if (format !== undefined) return selectGguf(repo, files, format);
  const weights = files.get(SINGLE) ?? files.get(INDEX);
  if (weights === undefined) {
    throw new HubError(
      formatsOf(files).length > 0
        ? `${repo} has GGUF files: name the format that you want, as ${repo}:${formatsOf(files)[0]}. It has ${formatsOf(files).join(', ')}.`
        : `${repo} has no ${SINGLE} and no ${INDEX}, and no GGUF file in its place. It has ${listOf(entries)}. Look for another repository of the same model that has them.`,
    );
  }
  const config = files.get(CONFIG);
  if (config === undefined) {
    throw new HubError(
      `${repo} has no ${CONFIG}, so the architecture of its weights is unknown. It has ${listOf(entries)}. Check that it is a whole model.`,
    );
  }
  const small = [...files.values()].filter(
    (file) => SMALL.has(file.name) || isVocabularyFile(file.name) || tellsWhatItIs(file),
  );
  return { config, small, weights };
}

function tellsWhatItIs({ name, size }: RemoteFile): boolean {
  return (name.startsWith('LICENSE') || name === 'README.md') && size <= LARGEST_TEXT;
}

/** `NAME-Q4_K_M.gguf`, or `NAME-Q4_K_M-00001-of-00003.gguf`, but not the image encoders (`mmproj`) beside them. */
const GGUF_NAME =
  /^(?!mmproj).*?[-._](?<format>(?:UD-)?(?:I?Q\d\w*|T?Q\d_\d|BF16|F16|F32|MXFP4\w*))(?<part>-\d{5}-of-\d{5})?\.gguf$/i;

function formatOf(name: string): string | undefined {
  return GGUF_NAME.exec(name)?.groups?.format?.toUpperCase();
}

function formatsOf(files: ReadonlyMap<string, RemoteFile>): string[] {
  return [...new Set([...files.keys()].flatMap((name) => formatOf(name) ?? []))];
}

function selectGguf(repo: string, files: ReadonlyMap<string, RemoteFile>, format: string): Selection {
  const found = [...files.values()].filter(({ name }) => formatOf(name) === format.toUpperCase());
  const [weights, ...parts] = found.sort((a, b) => (a.name < b.name ? -1 : 1));
  if (weights === undefined) {
    const known = formatsOf(files).join(', ');
    throw new HubError(
      `${repo} has no GGUF file in ${quote(format)}. It has ${known === '' ? 'no GGUF files: leave the format out' : known}.`,
    );
  }
  if (parts.length > 0 && !GGUF_NAME.exec(weights.name)?.groups?.part) {
    throw new HubError(
      `${repo} has several GGUF files in ${quote(format)}: ${found.map(({ name }) => name).join(', ')}. Download the one that you want with a browser.`,
    );
  }
  return { small: [...files.values()].filter(tellsWhatItIs), weights, parts };
}

/**
 * The shards that an index names, sorted by name. Throws `HubError` when the index is invalid, or names a file that the
 * repository does not have.
 */
export function shardsOf(repo: string, index: Uint8Array, entries: readonly Entry[]): RemoteFile[] {
  const fail = (problem: string, cause?: unknown): HubError =>
    new HubError(
      `${repo}: its ${INDEX} cannot be used: ${problem}. Tell the repository's owner, or take another revision.`,
      { cause },
    );
  let names: string[];
  try {
    names = [...new Set(shardsIn(index).values())].sort();
  } catch (error) {
    throw fail((error as SyntaxError).message, error);
  }
  const files = new Map(entries.map(({ path, file }) => [path, file]));
  return names.map((name) => {
    const file = isPlainName(name) ? files.get(name) : undefined;
    if (file === undefined) throw fail(`it names ${quote(name)}, and the repository has no such file`);
    return file;
  });
}

function listOf(entries: readonly Entry[]): string {
  if (entries.length === 0) return 'nothing at all';
  const names = entries.map(({ path, file }) => quote(file === undefined ? `${path}/` : path));
  const more = names.length - 20;
  return names.slice(0, 20).join(', ') + (more > 0 ? ` and ${more} more` : '');
}
