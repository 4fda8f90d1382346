/** Standard input as text. */
import { DataError } from '../errors.js';

/** The text of standard input in pieces, without a byte order mark. Throws `DataError` for bytes that are not UTF-8. */
export async function* standardInput(): AsyncGenerator<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  const decode = (bytes?: Uint8Array): string => {
    try {
      return decoder.decode(bytes, { stream: bytes !== undefined });
    } catch (error) {
      throw new DataError('standard input is not UTF-8 text: convert it to UTF-8', { cause: error });
    }
  };
  for await (const bytes of process.stdin) yield decode(bytes as Uint8Array);
  yield decode();
}

/** All of standard input. Throws `DataError` for bytes that are not UTF-8. */
export async function readStandardInput(): Promise<string> {
  let text = '';
  for await (const piece of standardInput()) text += piece;
  return text;
}
