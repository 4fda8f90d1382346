// Shared by all kernels: the thread's scratch memory, the partition of work, and the reporting of errors.

/** The address of this thread's scratch memory. */
export let scratch: usize = 0;
/** The address of the control block, which all threads share. */
export let control: usize = 0;
/** This thread's number. A kernel's `t`, in contrast, is the part of its work that the thread has taken. */
export let thread: i32 = 0;

/** Sets a thread's number and the start of its scratch memory; called once, before any kernel. */
export function place(controlAt: usize, scratchAt: usize, number: i32): void {
  control = controlAt;
  scratch = scratchAt;
  thread = number;
}

// Byte offsets in the control block: a cache line for each word that threads wait for.

/** How many times workers have left a job, over all jobs. */
export const LEFT: usize = 0;
/** The number of threads that sleep at the end of a stage. */
export const SLEEPERS: usize = 128;
/** The number of the present or last job. */
export const JOB: usize = 192;
/** The number of threads that sleep until the next job. */
export const JOB_SLEEPERS: usize = 256;
/** The address of the job's schedule. */
export const JOB_START: usize = 320;
/** The address of the schedule's end. */
export const JOB_END: usize = 324;
/** The number of threads of the job. */
export const JOB_THREADS: usize = 328;
/** The error code of the job, or 0. */
export const FAILURE: usize = 384;

/** Error codes, for values that are known only at run time. */
export const INDEX_OUT_OF_RANGE: i32 = 1;

/** Reports an error, which is thrown when the run has ended. */
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

/** The first unit of part t when `count` units are divided into T parts. Part t ends where part t + 1 begins. */
// @ts-ignore: decorator
@inline
export function cut(count: i32, t: i32, T: i32): i32 {
  return <i32>((<i64>count * t) / T);
}

/** The first element of part t when `count` elements are divided into T parts at multiples of `unit`. */
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

/** The address of row i in a table of addresses. */
// @ts-ignore: decorator
@inline
export function rowOf(table: usize, i: i32): usize {
  return <usize>load<u32>(table + (<usize>i << 2));
}

/** The address of a row's token in an operand. Words i, i + 1 and i + 2 are its address and its strides of rows and tokens in bytes. */
// @ts-ignore: decorator
@inline
export function tokenAt(a: usize, i: i32, row: i32, token: i32): usize {
  return address(a, i) + <usize>row * address(a, i + 1) + <usize>token * address(a, i + 2);
}
