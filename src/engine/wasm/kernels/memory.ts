// What every kernel shares: its thread's scratch memory, how work is cut, and how errors are reported.

/** Where this thread's scratch memory begins. */
export let scratch: usize = 0;
/** Where the control block begins, which all threads share. */
export let control: usize = 0;
/** This thread's number. What a kernel is given as `t` is the part of its work that the thread has taken. */
export let thread: i32 = 0;

/** Sets a thread's number and the start of its scratch memory; called once, before any kernel. */
export function place(controlAt: usize, scratchAt: usize, number: i32): void {
  control = controlAt;
  scratch = scratchAt;
  thread = number;
}

// Byte offsets in the control block: a cache line for each word that threads wait for.

/** How often workers have left a job, over all jobs. */
export const LEFT: usize = 0;
/** How many threads sleep until all are through a stage. */
export const SLEEPERS: usize = 128;
/** The number of the job that runs, or of the last one. */
export const JOB: usize = 192;
/** How many threads sleep until there is a job. */
export const JOB_SLEEPERS: usize = 256;
/** The address of the job's schedule. */
export const JOB_START: usize = 320;
/** The address behind it. */
export const JOB_END: usize = 324;
/** How many threads take part in the job. */
export const JOB_THREADS: usize = 328;
/** What went wrong in the job, or 0. */
export const FAILURE: usize = 384;

/** What can be wrong with values that only a run knows. */
export const INDEX_OUT_OF_RANGE: i32 = 1;

/** Reports that something went wrong; the run ends first. */
export function fail(what: i32): void {
  atomic.store<i32>(control, what, FAILURE);
}

/** Word i of a kernel's arguments as an integer. */
// @ts-ignore: decorator
@inline
export function word(a: usize, i: i32): i32 {
  return load<i32>(a + (<usize>i << 2));
}

/** Word i of a kernel's arguments as an address. */
// @ts-ignore: decorator
@inline
export function address(a: usize, i: i32): usize {
  return <usize>load<u32>(a + (<usize>i << 2));
}

/** Word i of a kernel's arguments as a number. */
// @ts-ignore: decorator
@inline
export function float(a: usize, i: i32): f32 {
  return load<f32>(a + (<usize>i << 2));
}

/** The first of `count` units of part t of T; those of t + 1 begin where its own end. */
// @ts-ignore: decorator
@inline
export function cut(count: i32, t: i32, T: i32): i32 {
  return <i32>((<i64>count * t) / T);
}

/** The first element of part t's share of a line of `count`, which is cut in units of so many. */
// @ts-ignore: decorator
@inline
export function share(count: i32, unit: i32, t: i32, T: i32): i32 {
  return min(count, cut((count + unit - 1) / unit, t, T) * unit);
}

/** The offset of element i (row-major) of axes whose sizes and strides are tables of words, in elements; `rank` axes from the first. */
// @ts-ignore: decorator
@inline
export function offsetOf(i: i32, rank: i32, dims: usize, strides: usize): i32 {
  let offset = 0;
  for (let d = rank - 1; d >= 0; d--) {
    const size = word(dims, d);
    offset += (i % size) * word(strides, d);
    i = i / size;
  }
  return offset;
}

/** An address in a table of rows. */
// @ts-ignore: decorator
@inline
export function rowOf(table: usize, i: i32): usize {
  return <usize>load<u32>(table + (<usize>i << 2));
}

/** Bytes to a row and a token of an operand: its address, bytes between rows and between tokens are words i, i + 1, i + 2. */
// @ts-ignore: decorator
@inline
export function tokenAt(a: usize, i: i32, row: i32, token: i32): usize {
  return address(a, i) + <usize>row * address(a, i + 1) + <usize>token * address(a, i + 2);
}
