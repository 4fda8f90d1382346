/** The common options of archive commands, and the opening of archives. */
import type { Command } from 'commander';
import { ARCHIVE_FOLDER, Archive } from '../../archive/index.js';
import { visible } from '../../checkpoint/index.js';

/** The options of all commands of an archive. */
export interface ArchiveFlags {
  archive: string;
  states?: string;
}

/** Adds these options to a command. */
export function addArchiveOptions(command: Command): Command {
  return command
    .option(
      '--archive <place>',
      'where the archive is: a folder, or postgres://user@host/database for several machines',
      ARCHIVE_FOLDER,
    )
    .option(
      '--states <place>',
      "where documents' states are kept: a folder, redis://host:port, or s3://bucket/prefix?endpoint=URL (default: in the archive's folder)",
    );
}

/**
 * Opens an archive, calls `use` with it, and closes it in any case. If the signal ends the wait for the archive, the exit status is 130: before it
 * is open, `use` is not called. Throws as `Archive.open` and `use` do.
 */
export async function withArchive(
  { archive: place, states }: ArchiveFlags,
  options: { create?: boolean; language?: string | undefined; signal?: AbortSignal | undefined },
  use: (archive: Archive) => Promise<void>,
): Promise<void> {
  const { signal } = options;
  try {
    const archive = await Archive.open({
      place,
      states,
      notice: (line) => say(`heddle: ${line}`),
      ...options,
    });
    try {
      await use(archive);
    } finally {
      await archive.close();
    }
  } catch (error) {
    if (!(signal?.aborted && error === signal.reason)) throw error;
    process.exitCode = 130;
  }
}

/** The options that hints must include for a command to use this archive. */
export function sameArchive({ archive, states }: ArchiveFlags): string[] {
  return [
    ...(archive === ARCHIVE_FOLDER ? [] : ['--archive', archive]),
    ...(states === undefined ? [] : ['--states', states]),
  ];
}

/** Writes a message to standard error, with control characters made visible. */
export function say(line: string): void {
  process.stderr.write(`${visible(line)}\n`);
}

/** `12 pages`. */
export function counted(number: number, unit: string): string {
  return `${number.toLocaleString('en')} ${unit}${number === 1 ? '' : 's'}`;
}
