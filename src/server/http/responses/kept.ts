/**
 * Responses that can be gone on from. They stay in memory: what is said to a server is written to a disk only where a client
 * asks for that, with `save_state`. The ones used least recently make room for others.
 */
import type { Item } from './items.js';
import type { ModelResponse } from './schemas.js';

/** A response that others may continue. */
export interface KeptResponse {
  readonly response: ModelResponse;
  /** What was new in its request. */
  readonly input: readonly Item[];
  /** All that a response after it comes after. */
  readonly items: readonly Item[];
}

/** What they may take together, in bytes of JSON. */
const BYTES = 64e6;

/** Responses in memory, by their owners; the oldest go when all take more than the limit. */
export class KeptResponses {
  private readonly kept = new Map<string, KeptResponse & { bytes: number }>();
  private bytes = 0;

  constructor(private readonly limit = BYTES) {}

  put(owner: string, { response, input, items }: KeptResponse): void {
    // What it shares with those before it is counted there.
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
