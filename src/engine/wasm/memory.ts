/** The allocator of the WebAssembly memory that all threads share: weights, states and temporaries. */
import { DeviceLimitError } from '../../errors.js';

const PAGE = 65536;
/** 4 GiB is the limit of 32-bit addresses. Some systems, phones above all, reserve less: the first size that succeeds is used. */
const MOST_PAGES = [65536, 32768, 16384, 8192];
/** Bytes at the beginning for the kernels' own constants. */
const RESERVED = 2 * PAGE;
const FIRST_PAGES = 16;
/** Blocks begin at multiples of a cache line. */
const ALIGNMENT = 64;

/** Allocates blocks in the memory that all kernels share. */
export class SharedMemory {
  readonly memory: WebAssembly.Memory;
  private readonly mostPages: number;
  /** Free blocks in ascending order; adjacent ones are merged. */
  private free: { start: number; end: number }[] = [{ start: RESERVED, end: FIRST_PAGES * PAGE }];
  private readonly sizes = new Map<number, number>();
  private view = new Uint8Array();

  constructor() {
    [this.memory, this.mostPages] = largestMemory();
  }

  /** The whole memory at its present size. */
  get bytes(): Uint8Array {
    if (this.view.buffer !== this.memory.buffer) this.view = new Uint8Array(this.memory.buffer);
    return this.view;
  }

  int32(address: number, length: number): Int32Array {
    return new Int32Array(this.memory.buffer, address, length);
  }

  /** The maximum size in bytes. */
  get mostBytes(): number {
    return this.mostPages * PAGE;
  }

  /** Bytes that are allocated. */
  get taken(): number {
    let total = 0;
    for (const size of this.sizes.values()) total += size;
    return total;
  }

  /** Allocates an uninitialized block and returns its address. Throws `DeviceLimitError` if there is no room. */
  allocate(bytes: number): number {
    const size = Math.max(ALIGNMENT, Math.ceil(bytes / ALIGNMENT) * ALIGNMENT);
    let at = this.fitting(size);
    if (at < 0) {
      this.grow(size);
      at = this.fitting(size);
    }
    const block = this.free[at]!;
    const { start } = block;
    block.start += size;
    if (block.start === block.end) this.free.splice(at, 1);
    this.sizes.set(start, size);
    return start;
  }

  release(address: number): void {
    const size = this.sizes.get(address);
    if (size === undefined) return;
    this.sizes.delete(address);
    this.insert(address, address + size);
  }

  /** The smallest free block that is large enough. */
  private fitting(size: number): number {
    let best = -1;
    let least = Number.POSITIVE_INFINITY;
    for (const [i, { start, end }] of this.free.entries()) {
      const room = end - start;
      if (room >= size && room < least) {
        best = i;
        least = room;
      }
    }
    return best;
  }

  private insert(start: number, end: number): void {
    let low = 0;
    let high = this.free.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.free[middle]!.start < start) low = middle + 1;
      else high = middle;
    }
    const before = this.free[low - 1];
    const after = this.free[low];
    const joinsBefore = before?.end === start;
    const joinsAfter = after?.start === end;
    if (joinsBefore && joinsAfter) {
      before.end = after.end;
      this.free.splice(low, 1);
    } else if (joinsBefore) before.end = end;
    else if (joinsAfter) after.start = start;
    else this.free.splice(low, 0, { start, end });
  }

  /** Throws `DeviceLimitError` if this many more bytes do not fit. Call it before the first of several allocations. */
  expectRoom(bytes: number): void {
    if (this.taken + bytes > this.mostPages * PAGE - RESERVED) throw this.outOfMemory(bytes);
  }

  private grow(size: number): void {
    const end = this.memory.buffer.byteLength;
    const last = this.free.at(-1);
    const missing = size - (last?.end === end ? last.end - last.start : 0);
    // Grows by more than necessary, since each growth is a system call.
    const least = Math.ceil(missing / PAGE);
    const left = this.mostPages - end / PAGE;
    const wanted = Math.min(left, Math.max(least, 256));
    try {
      if (least > left) throw new RangeError('beyond the largest address');
      this.memory.grow(wanted);
    } catch (error) {
      throw this.outOfMemory(size, error);
    }
    this.insert(end, end + wanted * PAGE);
  }

  private outOfMemory(bytes: number, cause?: unknown): DeviceLimitError {
    return new DeviceLimitError(
      `the wasm device is out of memory: it has ${megabytes(this.taken)} MB in use and needs ${megabytes(bytes)} MB more, of at most ${megabytes(this.mostPages * PAGE)} MB. Use a smaller model, fewer bits or fewer sequences, or in Node.js the cpu device`,
      { cause },
    );
  }
}

function largestMemory(): [WebAssembly.Memory, pages: number] {
  let refusal: unknown;
  for (const maximum of MOST_PAGES) {
    try {
      return [new WebAssembly.Memory({ initial: FIRST_PAGES, maximum, shared: true }), maximum];
    } catch (error) {
      refusal = error;
    }
  }
  throw new DeviceLimitError(
    'there is no shared memory of 512 MB for the wasm device: allow this process more virtual memory, or in Node.js use the cpu device',
    { cause: refusal },
  );
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toLocaleString('en', { maximumFractionDigits: 0 });
}
