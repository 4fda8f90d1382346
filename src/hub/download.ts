/**
 * Downloads one file whose size and checksum are known, over as many connections as it takes, resuming from the bytes of an
 * earlier process, and checks it when it is complete.
 */
import { quote } from '../checkpoint/index.js';
import { HubError } from '../errors.js';
import type { Answer, Connection } from './connection.js';
import { PartialFile } from './partial-file.js';
import { Transient } from './patience.js';
import type { RemoteFile } from './sums.js';

/** Progress of a download; numbers are in bytes. */
export type TransferEvent =
  /** A file on disk is being hashed: `done` of its `total`. */
  | { readonly event: 'checking'; readonly name: string; readonly done: number; readonly total: number }
  /** Bytes have arrived: `done` of all files' `total` are present, `received` of them in this call. */
  | {
      readonly event: 'downloading';
      readonly name: string;
      readonly done: number;
      readonly total: number;
      readonly received: number;
    }
  /** The bytes did not match the checksum, and are downloaded once more. */
  | { readonly event: 'mismatch'; readonly name: string }
  | { readonly event: 'waiting'; readonly seconds: number; readonly reason: string };

/** One file to download, with the terms for error messages. */
export interface Download {
  readonly url: string;
  /** The path of its part file. */
  readonly part: string;
  /** Who listed the checksum, in error messages. */
  readonly listedBy: string;
  /** The setting that names the source, in error messages. */
  readonly setting: string;
  readonly signal: AbortSignal | undefined;
  /** Called with each response before its body is read; an error that it throws ends the download. */
  readonly onAnswer?: (answer: Answer) => void;
  /** Called while the bytes of an earlier process are hashed, with the count so far. */
  readonly onChecking: (done: number) => void;
  readonly onMismatch: () => void;
  /** Called with the bytes just received and the bytes of the file present so far. */
  readonly onBytes: (received: number, done: number) => void;
}

/** Downloads a file and returns its complete, checked and still open part. Throws `HubError` when the checksum is wrong twice, and the errors of `Connection`. */
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

/** Appends to a part until it has all of its bytes, over as many connections as it takes. */
async function fill(
  part: PartialFile,
  connection: Connection,
  file: RemoteFile,
  { url, setting, onAnswer, onBytes }: Download,
): Promise<void> {
  // The most bytes that any attempt has reached: if a server can only send a file from its start, the same bytes again
  // are no progress.
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

/** Keeps the part if the response continues at its end, and empties it if the response starts at byte 0. */
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
      `${answer.host} does not send ${file.name}: it answers ${status} with a range that was not requested. Try again later.`,
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
      `${host} repeatedly ends ${name} too early. What was downloaded is kept: run the same command later to go on.`,
    ),
  );
}
