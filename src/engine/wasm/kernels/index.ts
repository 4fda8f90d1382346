// Runs schedules. Every thread walks the same stages and takes parts of each stage until none are left; the next stage begins when all
// parts are done. A thread that the system preempts thus delays only the part that it has taken.
import { Kernel } from '../../../graph/lower/wasm/codes';
import { attention } from './attention';
import { convolution } from './convolution';
import { expertLists, expertsDown, expertsUp, packedExpertsDown, packedExpertsUp } from './experts';
import { map } from './map';
import { maskedAttention } from './masked-attention';
import { matmul, rowsMatmul } from './matmul';
import {
  address,
  control,
  JOB,
  JOB_END,
  JOB_SLEEPERS,
  JOB_START,
  JOB_THREADS,
  LEFT,
  SLEEPERS,
} from './memory';
import { forgetRows, packedMatmul } from './packed';
import { quantize } from './quantize';
import { recurrence } from './recurrence';
import { cumulative, reduce, rmsNorm, softmax } from './reduce';
import { scan } from './scan';
import { gather, gatherElements, gatherPacked, scatterElements, topK } from './select';
import { appendEntries, loadEntries, loadRows, storeRows } from './states';
import { channelSystem } from './system';

export { place } from './memory';

/** Milliseconds since an arbitrary moment, for profiling. */
@external('env', 'now')
declare function now(): f64;

/** Iterations that a thread spins before it sleeps: about a millisecond, since waking up costs more than most steps take. */
const SPINS: i32 = 200000;
/** Idle threads spin as long, since the next token comes soon. */
const IDLE_SPINS: i32 = 200000;
/** Nanoseconds after which the calling thread checks whether the other threads are still alive. */
const PATIENCE: i64 = 200000000;

/** Parts of a stage for each thread: more parts balance the load better when a thread is delayed, but each part has a cost. */
const PARTS: i32 = 2;

/** A stage's words: bytes to the next stage, the address of its counters; then its steps. */
const STAGE: usize = 8;
/** A step's words: its kernel, bytes to the next step; then the kernel's own. */
const STEP: usize = 8;
/** Counters of a stage: parts taken, and, at this offset, parts done. */
const DONE: usize = 4;

function execute(kernel: i32, a: usize, t: i32, T: i32): void {
  switch (kernel) {
    case Kernel.map:
      map(a, t, T);
      break;
    case Kernel.reduce:
      reduce(a, t, T);
      break;
    case Kernel.cumulative:
      cumulative(a, t, T);
      break;
    case Kernel.matmul:
      matmul(a, t, T);
      break;
    case Kernel.quantize:
      quantize(a, t, T);
      break;
    case Kernel.packedMatmul:
      packedMatmul(a, t, T);
      break;
    case Kernel.rowsMatmul:
      rowsMatmul(a, t, T);
      break;
    case Kernel.rmsNorm:
      rmsNorm(a, t, T);
      break;
    case Kernel.softmax:
      softmax(a, t, T);
      break;
    case Kernel.gather:
      gather(a, t, T);
      break;
    case Kernel.gatherPacked:
      gatherPacked(a, t, T);
      break;
    case Kernel.gatherElements:
      gatherElements(a, t, T);
      break;
    case Kernel.scatterElements:
      scatterElements(a, t, T);
      break;
    case Kernel.topK:
      topK(a, t, T);
      break;
    case Kernel.recurrence:
      recurrence(a, t, T);
      break;
    case Kernel.scan:
      scan(a, t, T);
      break;
    case Kernel.channelSystem:
      channelSystem(a, t, T);
      break;
    case Kernel.convolution:
      convolution(a, t, T);
      break;
    case Kernel.attention:
      attention(a, t, T);
      break;
    case Kernel.maskedAttention:
      maskedAttention(a, t, T);
      break;
    case Kernel.expertLists:
      expertLists(a, t, T);
      break;
    case Kernel.expertsUp:
      expertsUp(a, t, T);
      break;
    case Kernel.expertsDown:
      expertsDown(a, t, T);
      break;
    case Kernel.packedExpertsUp:
      packedExpertsUp(a, t, T);
      break;
    case Kernel.packedExpertsDown:
      packedExpertsDown(a, t, T);
      break;
    case Kernel.loadRows:
      loadRows(a, t, T);
      break;
    case Kernel.storeRows:
      storeRows(a, t, T);
      break;
    case Kernel.loadEntries:
      loadEntries(a, t, T);
      break;
    case Kernel.appendEntries:
      appendEntries(a, t, T);
      break;
    default:
      unreachable();
  }
}

/** Waits until a counter reaches a number; returns false after `patience` nanoseconds. */
function reaches(counter: usize, wanted: i32, patience: i64): bool {
  // No early return: the baseline compiler of V8 11 miscompiles it to an endless loop when the function is inlined.
  for (let i = 0; i < SPINS && atomic.load<i32>(counter) < wanted; i++) {}
  if (atomic.load<i32>(counter) < wanted) {
    atomic.add<i32>(control + SLEEPERS, 1);
    const seen = atomic.load<i32>(counter);
    if (seen < wanted) atomic.wait<i32>(counter, seen, patience);
    atomic.sub<i32>(control + SLEEPERS, 1);
  }
  return atomic.load<i32>(counter) >= wanted;
}

/** Increments a counter, and wakes the threads that wait for it if it reaches `wanted`. */
function countUp(counter: usize, wanted: i32): void {
  if (atomic.add<i32>(counter, 1) + 1 == wanted && atomic.load<i32>(control + SLEEPERS) > 0) atomic.notify(counter, -1);
}

// @ts-ignore: decorator
@inline
function partsFor(T: i32): i32 {
  return T == 1 ? 1 : T * PARTS;
}

/** The address at which the milliseconds of the stage's steps are added up, or 0. */
let times: usize = 0;

/** Takes parts of a stage and runs its steps for them, until all parts are taken. */
function takeParts(stage: usize, T: i32): void {
  const parts = partsFor(T);
  const end = stage + address(stage, 0);
  const counters = address(stage, 1);
  for (let part = atomic.add<i32>(counters, 1); part < parts; part = atomic.add<i32>(counters, 1)) {
    let at = times;
    for (let p = stage + STAGE; p < end; p += address(p, 1)) {
      const begun = at ? now() : 0;
      execute(load<i32>(p), p + STEP, part, parts);
      if (at) {
        store<f64>(at, load<f64>(at) + (now() - begun));
        at += 8;
      }
    }
    countUp(counters + DONE, parts);
  }
}

/** Adds the calling thread's waiting time to the stage's last step, and starts timing the next stage. */
function countWaiting(stage: usize, begun: f64): void {
  const end = stage + address(stage, 0);
  for (let p = stage + STAGE; p < end; p += address(p, 1)) times += 8;
  store<f64>(times - 8, load<f64>(times - 8) + (now() - begun));
}

/**
 * Runs the stages from `start` to `end` as thread 0 of T. Returns 0 when all stages are done and the other threads have left; otherwise the
 * address to continue at: a wait has timed out, and the caller must check whether the other threads are alive.
 */
export function run(start: usize, end: usize, T: i32): usize {
  for (let stage = start; stage < end; stage += address(stage, 0)) {
    takeParts(stage, T);
    const begun = times ? now() : 0;
    if (!reaches(address(stage, 1) + DONE, partsFor(T), PATIENCE)) return stage;
    if (times) countWaiting(stage, begun);
  }
  // The memory of the stages may be reused when this returns.
  if (T > 1 && !reaches(control + LEFT, atomic.load<i32>(control + JOB) * (T - 1), PATIENCE)) return end;
  return 0;
}

/**
 * Gives the other threads the stages from `start` to `end`, whose counters begin at `counters`; `run` follows. Where
 * `timesAt` is not 0, the milliseconds of the steps are added there.
 */
export function begin(counters: usize, start: usize, end: usize, T: i32, timesAt: usize): void {
  times = timesAt;
  forgetRows();
  memory.fill(counters, 0, start - counters);
  if (T == 1) return;
  atomic.store<i32>(control + JOB_START, <i32>start);
  atomic.store<i32>(control + JOB_END, <i32>end);
  atomic.store<i32>(control + JOB_THREADS, T);
  atomic.add<i32>(control + JOB, 1);
  if (atomic.load<i32>(control + JOB_SLEEPERS) > 0) atomic.notify(control + JOB, -1);
}

/** The main loop of every thread but the calling one: waits for stages and runs them. */
export function work(seen: i32): void {
  for (;;) {
    for (let i = 0; i < IDLE_SPINS && atomic.load<i32>(control + JOB) == seen; i++) {}
    while (atomic.load<i32>(control + JOB) == seen) {
      atomic.add<i32>(control + JOB_SLEEPERS, 1);
      atomic.wait<i32>(control + JOB, seen, -1);
      atomic.sub<i32>(control + JOB_SLEEPERS, 1);
    }
    seen++;
    forgetRows();
    const end = <usize>atomic.load<u32>(control + JOB_END);
    const T = atomic.load<i32>(control + JOB_THREADS);
    for (let stage = <usize>atomic.load<u32>(control + JOB_START); stage < end; stage += address(stage, 0)) {
      takeParts(stage, T);
      while (!reaches(address(stage, 1) + DONE, partsFor(T), -1)) {}
    }
    countUp(control + LEFT, seen * (T - 1));
  }
}
