/**
 * The encoding of RWKV's World vocabulary (BlinkDL, ChatRWKV, tokenizer/rwkv_tokenizer.py): at each position of the UTF-8 bytes, the
 * longest matching token. The equivalent tokenizer.json is WordPiece without a prefix over GPT-2's byte symbols; the
 * library tries every end of the text at each position, which takes quadratic time, whereas a trie takes linear time.
 */
import { TokenizerError } from '../errors.js';
import { anyOf } from './any-of.js';
import { BYTE_SYMBOLS } from './byte-level.js';
import type { TokenizerJson } from './tokenizer-schema.js';

const NONE = -1;
const utf8 = new TextEncoder();

/** Encodes texts by the longest token at each position; added tokens are split off first. */
export class LongestMatch {
  /** The next node by node x 256 + byte. */
  readonly #next = new Map<number, number>();
  /** The id of the token that ends at a node. */
  readonly #ids: number[] = [NONE];
  readonly #added: ReadonlyMap<string, number>;
  readonly #names: RegExp | undefined;

  /** Whether a tokenizer.json is of this kind. */
  static is({ model, normalizer, pre_tokenizer: pre }: TokenizerJson): boolean {
    const isByteLevel = pre?.type === 'ByteLevel' && pre.use_regex === false && !pre.add_prefix_space;
    return (
      model.type === 'WordPiece' &&
      model.continuing_subword_prefix === '' &&
      normalizer === null &&
      isByteLevel &&
      !Array.isArray(model.vocab)
    );
  }

  constructor({ model, added_tokens: added }: TokenizerJson) {
    this.#added = new Map(added.map(({ content, id }) => [content, id]));
    if (added.length > 0) this.#names = new RegExp(`(${anyOf(this.#added.keys())})`, 'u');
    const bytes = new Map(BYTE_SYMBOLS.map((symbol, byte) => [symbol, byte]));
    for (const [token, id] of Object.entries(model.vocab as Readonly<Record<string, number>>)) {
      if (this.#added.has(token)) continue;
      let node = 0;
      for (const symbol of token) node = this.#child(node, bytes.get(symbol)!);
      this.#ids[node] = id;
    }
  }

  #child(node: number, byte: number): number {
    const key = node * 256 + byte;
    let child = this.#next.get(key);
    if (child === undefined) {
      child = this.#ids.push(NONE) - 1;
      this.#next.set(key, child);
    }
    return child;
  }

  encode(text: string): number[] {
    const ids: number[] = [];
    const parts = this.#names ? text.split(this.#names) : [text];
    // Every second part is the name of an added token.
    for (const [i, part] of parts.entries()) {
      if (i % 2 === 1) ids.push(this.#added.get(part)!);
      else this.#match(utf8.encode(part), ids);
    }
    return ids;
  }

  #match(bytes: Uint8Array, ids: number[]): void {
    for (let at = 0; at < bytes.length; ) {
      let id = NONE;
      let end = at;
      let node: number | undefined = 0;
      for (let i = at; i < bytes.length; i++) {
        node = this.#next.get(node * 256 + bytes[i]!);
        if (node === undefined) break;
        if (this.#ids[node] === NONE) continue;
        id = this.#ids[node]!;
        end = i + 1;
      }
      if (id === NONE) throw new TokenizerError(`no token begins with the byte ${bytes[at]}`);
      ids.push(id);
      at = end;
    }
  }
}
