/**
 * Stored responses, which later requests can continue. They are kept in memory only: conversations are written to disk only if a client
 * requests that with `save_state`. The least recently used ones are evicted.
 */
import type { Item } from './items.js';
import type { ModelResponse } from './schemas.js';

/** A response that later ones may continue. */
export interface KeptResponse {
  readonly response: ModelResponse;
  /** The new items of its request. */
  readonly input: readonly Item[];
  /** All items that a following response continues. */
  readonly items: readonly Item[];
}

/** The total limit, in bytes of JSON. */
const BYTES = 64e6;

/** Responses in memory, by owner; the least recently used are evicted beyond the limit. */
export class KeptResponses {
  private readonly kept = new Map<string, KeptResponse & { bytes: number }>();
  private bytes = 0;

  constructor(private readonly limit = BYTES) {}

  put(owner: string, { response, input, items }: KeptResponse): void {
    // Items shared with earlier responses are counted there.
    const bytes = JSON.stringify({ response, input }).length;
    this.kept.set(keyOf(owner, response.id), { response, input, items, bytes });
    this.bytes += bytes;
    for (const [key, oldest] of this.kept) {
      if (this.bytes <= this.limit) break;
      this.kept.delete(key);
      this.bytes -= oldest.bytes;
    }
  }

  get(owner: string, id: string): KeptResponse | undefined {
    const key = keyOf(owner, id);
    const found = this.kept.get(key);
    if (!found) return undefined;
    this.kept.delete(key);
    this.kept.set(key, found);
    return found;
  }

  delete(owner: string, id: string): boolean {
    const key = keyOf(owner, id);
    this.bytes -= this.kept.get(key)?.bytes ?? 0;
    return this.kept.delete(key);
  }
}

function keyOf(owner: string, id: string): string {
  return `${owner}/${id}`;
}
