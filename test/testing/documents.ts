/** What people read: the documents, and the programs and commands in them. */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../../', import.meta.url));

export interface CodeBlock {
  readonly language: string;
  readonly text: string;
}

function markdownIn(folder: string): string[] {
  return readdirSync(root + folder, { encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => `${folder}/${name}`);
}

/** Paths of the documents, from the root of the repository. */
export const DOCUMENTS: readonly string[] = [
  'README.md',
  'CHANGELOG.md',
  'SECURITY.md',
  'assets/sotu-hybrid/README.md',
  'test/fixtures/README.md',
  ...markdownIn('docs'),
  ...markdownIn('docs/evidence'),
  ...readdirSync(`${root}bench/peers`, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .flatMap(({ name }) => markdownIn(`bench/peers/${name}`)),
];

export function readDocument(path: string): string {
  return readFileSync(root + path, 'utf8');
}

const FENCED = /^ *```(\w*)\n(.*?)^ *```$/gms;

/** Fenced blocks, in order. */
export function codeBlocks(text: string): CodeBlock[] {
  return [...text.matchAll(FENCED)].map(([, language, code]) => ({ language: language!, text: code! }));
}

/** Code within sentences, in order. A line break in it is a space. */
export function inlineCode(text: string): string[] {
  return [...text.replace(FENCED, '').matchAll(/`([^`]+)`/g)].map(([, code]) => code!.replace(/\s+/g, ' '));
}

/** Lines of the blocks that show a shell, without what is printed there, and with continued lines as one. */
export function shellLines(text: string): string[] {
  return codeBlocks(text)
    .filter(({ language }) => language === '')
    .flatMap((block) => block.text.replaceAll('\\\n', ' ').split('\n'))
    .map((line) => line.trim().replace(/^\$ /, ''));
}

/** The words of a command as a shell splits them, up to a comment, a pipe or a redirection. */
export function shellWords(line: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  for (const [piece, single, double, escaped] of line.matchAll(
    /\$?'([^']*)'|"([^"]*)"|\\(.)|\s+|[#|>;&]|[^'"\\\s#|>;&$]+|\$/g,
  )) {
    if (/^\s+$/.test(piece)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else if (/^[|>;&]$/.test(piece) || (piece === '#' && word === undefined)) {
      break;
    } else word = (word ?? '') + (single ?? double ?? escaped ?? piece);
  }
  if (word !== undefined) words.push(word);
  return words;
}
