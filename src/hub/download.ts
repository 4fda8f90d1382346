/**
 * One file from a source that has listed its size and checksum: over as many connections as that takes, from where an earlier
 * process stopped, and checked when it is whole.
 */
import { quote } from '../checkpoint/index.js';
import { HubError } from '../errors.js';
import type { Answer, Connection } from './connection.js';
import { PartialFile } from './partial-file.js';
import { Transient } from './patience.js';
import type { RemoteFile } from './sums.js';

/** How a transfer of files goes on; numbers are in bytes. */
export type TransferEvent =
  /** Bytes of a file on disk are read and compared: `done` of its `total`. */
  | { readonly event: 'checking'; readonly name: string; readonly done: number; readonly total: number }
  /** Bytes come: `done` of all files' `total` are here, `received` of them in this call. */
  | {
      readonly event: 'downloading';
      readonly name: string;
      readonly done: number;
      readonly total: number;
      readonly received: number;
    }
  /** Bytes that came were wrong, and are fetched once more. */
  | { readonly event: 'mismatch'; readonly name: string }
  | { readonly event: 'waiting'; readonly seconds: number; readonly reason: string };

/** One file to download, with what messages call its source. */
export interface Download {
  readonly url: string;
  /** Where its bytes are kept until they are all there. */
  readonly part: string;
  /** Who has told the checksum, for people. */
  readonly listedBy: string;
  /** The setting that names the source, for people. */
  readonly setting: string;
  readonly signal: AbortSignal | undefined;
  /** Sees each answer before its bytes are taken; what it throws ends the download. */
  readonly onAnswer?: (answer: Answer) => void;
  /** Bytes that an earlier process left are read again: so many are done. */
  readonly onChecking: (done: number) => void;
  readonly onMismatch: () => void;
  /** So many bytes have come; `done` of the file's are there. */
  readonly onBytes: (received: number, done: number) => void;
}

/** All of a file's bytes, checked; the part is open. Throws `HubError` when they are wrong twice, and what connections throw. */
export async function fetchFile(
  connection: Connection,
  file: RemoteFile,
  download: Download,
): Promise<PartialFile> {
  const { name, sum } = file;
  const part = await PartialFile.open(download.part, file, download.signal, download.onChecking);
  try {
    for (let mismatches = 0; ; mismatches++) {
      await fill(part, connection, file, download);
      if (part.isRight) return part;
      const got = part.sum;
      await part.restart();
      if (mismatches === 1) {
        throw new HubError(
          `${name} came with the wrong bytes twice: ${download.listedBy} lists the ${sum.kind === 'git' ? 'git id' : 'SHA-256'} ${sum.hex}, and they have ${got}. They were deleted. Try again later, or over another network.`,
        );
      }
      download.onMismatch();
    }
  } catch (error) {
    await part.close();
    throw error;
  }
}

/** Appends to a part until it has all of its bytes, over as many connections as that takes. */
async function fill(
  part: PartialFile,
  connection: Connection,
  file: RemoteFile,
  { url, setting, onAnswer, onBytes }: Download,
): Promise<void> {
  // How far any attempt has come: where a server can only begin anew, the same bytes again are no gain.
  let farthest = part.bytes;
  const attempt = async (): Promise<void> => {
    if (part.bytes === file.size) return;
    const answer = await connection.get(url, part.bytes);
    try {
      onAnswer?.(answer);
      await goOnOrRestart(answer, part, file, setting);
    } catch (error) {
      answer.discard();
      throw error;
    }
    for await (const chunk of answer.body) {
      if (part.bytes + chunk.byteLength > file.size) {
        await part.restart();
        throw wrongSize(answer, file, `more than ${file.size}`, setting);
      }
      await part.append(chunk);
      farthest = Math.max(farthest, part.bytes);
      onBytes(chunk.byteLength, part.bytes);
    }
    if (part.bytes < file.size) throw ended(answer, file);
  };
  await connection.persist(attempt, () => farthest);
}

/** Leaves a part as it is when the answer goes on where it ends, and empties it when the answer begins anew. */
async function goOnOrRestart(
  answer: Answer,
  part: PartialFile,
  file: RemoteFile,
  setting: string,
): Promise<void> {
  const { status, headers } = answer;
  const encoded = (headers.get('content-encoding') ?? 'identity') !== 'identity';
  if (status === 200) {
    const length = headers.get('content-length');
    if (!encoded && length !== null && Number(length) !== file.size)
      throw wrongSize(answer, file, length, setting);
    if (part.bytes > 0) await part.restart();
    return;
  }
  const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(headers.get('content-range') ?? '');
  const fits =
    range !== null && Number(range[1]) === part.bytes && [String(file.size), '*'].includes(range[2]!);
  if (status === 206 && fits && !encoded) return;
  await part.restart();
  throw new Transient(
    `${answer.host} does not go on from the middle of ${file.name}`,
    new HubError(
      `${answer.host} does not give ${file.name}: it answers ${status} with another range than was asked for. Try again later.`,
    ),
  );
}

function wrongSize(
  { host, headers }: Answer,
  { name, size }: RemoteFile,
  got: string,
  setting: string,
): HubError {
  const type = quote(headers.get('content-type') ?? 'no type');
  return new HubError(
    `${host} answered with ${got} bytes of ${type} instead of the ${size} bytes of ${name}. A network's login page or a wrong ${setting} does that: look at it in a browser.`,
  );
}

function ended({ host }: Answer, { name }: RemoteFile): Transient {
  return new Transient(
    `${host} ended ${name} too early`,
    new HubError(
      `${host} ends ${name} too early, again and again. What was downloaded is kept: run the same command later to go on.`,
    ),
  );
}
