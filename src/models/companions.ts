/** The files that accompany a model's weights: tokenizer, chat template, generation config, license. */
import { join, readBytes, readFolder } from '#platform';
import { writeFileAtomic } from '../checkpoint/index.js';
import { CheckpointError } from '../errors.js';
import { isGguf, readGguf } from '../gguf.js';
import { reasonOf } from '../platform/unreadable.js';
import { isVocabularyFile } from '../text/index.js';

const NAMES: ReadonlySet<string> = new Set([
  'added_tokens.json',
  'chat_template.jinja',
  'chat_template.json',
  'generation_config.json',
  'merges.txt',
  'special_tokens_map.json',
  'tokenizer.json',
  'tokenizer.model',
  'tokenizer_config.json',
  'vocab.json',
  'vocab.txt',
]);

/**
 * Copies these files from a model's folder to another existing folder, byte for byte; for a GGUF file, writes them from its metadata. Throws
 * `CheckpointError` for a file that cannot be read, `StorageError` for one that cannot be written. Files named in `without` stay behind.
 */
export async function copyCompanions(
  from: string,
  to: string,
  without: readonly string[] = [],
): Promise<void> {
  if (await isGguf(from)) {
    // Imported on use, since it is large for a page.
    const { GGUF_COMPANIONS, ggufCompanion } = await import('../text/gguf-tokenizer.js');
    const gguf = await readGguf(from);
    for (const name of GGUF_COMPANIONS) {
      const json = ggufCompanion(gguf, name);
      if (json) await writeFileAtomic(join(to, name), `${JSON.stringify(json, null, 2)}\n`);
    }
    return;
  }
  const files = await readFolder(from).catch((error: Error) => {
    throw new CheckpointError(`${from} cannot be read: ${reasonOf(error)}`, { cause: error });
  });
  for (const file of files) {
    const goesAlong =
      NAMES.has(file.name) || isVocabularyFile(file.name) || /^(LICENSE|NOTICE)/.test(file.name);
    if (!goesAlong || file.isFolder || without.includes(file.name)) continue;
    const path = join(from, file.name);
    const bytes = await readBytes(path).catch((error: Error) => {
      throw new CheckpointError(`${path} cannot be read: ${reasonOf(error)}`, { cause: error });
    });
    await writeFileAtomic(join(to, file.name), bytes);
  }
}
