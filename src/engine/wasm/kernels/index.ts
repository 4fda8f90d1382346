// The executor of schedules: every thread walks the same steps and does its part of each. A barrier stands where the
// schedule says so, and nothing else is between the steps.
import { Kernel } from '../../../graph/lower/wasm/codes';
import { attention } from './attention';
import { convolution, recurrence, scan } from './recurrence';
import { expertsDown, expertsUp } from './experts';
import { map } from './map';
import { maskedAttention } from './masked-attention';
import { matmul, rowsMatmul } from './matmul';
import {
  ARRIVED,
  address,
  control,
  GENERATION,
  JOB,
  JOB_END,
  JOB_SLEEPERS,
  JOB_START,
  JOB_THREADS,
  SLEEPERS,
} from './memory';
import { packedMatmul } from './packed';
import { quantize } from './quantize';
import { cumulative, reduce, rmsNorm, softmax } from './reduce';
import { gather, gatherElements, gatherPacked, scatterElements, topK } from './select';
import { appendEntries, loadEntries, loadRows, storeRows } from './states';
import { channelSystem } from './system';

export { place } from './memory';

/** Milliseconds since some moment, for the times of steps. */
@external('env', 'now')
declare function now(): f64;

/** Looks at a word that other threads change before a thread goes to sleep: about a millisecond, since waking costs more than most steps. */
const SPINS: i32 = 200000;
/** Idle threads look as long, since the next token comes soon. */
const IDLE_SPINS: i32 = 200000;
/** Nanoseconds after which the calling thread looks whether all others are still alive. */
const PATIENCE: i64 = 200000000;

/** A step's words: its kernel, bytes to the next step, flags; then the kernel's own. */
const HEADER: usize = 12;
const BARRIER: i32 = 1;

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
    case Kernel.expertsUp:
      expertsUp(a, t, T);
      break;
    case Kernel.expertsDown:
      expertsDown(a, t, T);
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

/** The generation of the barrier at which this thread waits. */
let awaited: i32 = 0;
/** The step behind which the calling thread waits, or 0. */
let pending: usize = 0;

/** Says that this thread has done its part; the last one lets all go on. */
function arrive(T: i32): void {
  awaited = atomic.load<i32>(control + GENERATION);
  if (atomic.add<i32>(control + ARRIVED, 1) == T - 1) {
    atomic.store<i32>(control + ARRIVED, 0);
    atomic.store<i32>(control + GENERATION, awaited + 1);
    if (atomic.load<i32>(control + SLEEPERS) > 0) atomic.notify(control + GENERATION, -1);
  }
}

/** Waits for the others; false where they take very long. */
function wait(patience: i64): bool {
  // No early return: V8 11's first compiler makes an endless loop of one that is inlined.
  for (let i = 0; i < SPINS && atomic.load<i32>(control + GENERATION) == awaited; i++) {}
  if (atomic.load<i32>(control + GENERATION) == awaited) {
    atomic.add<i32>(control + SLEEPERS, 1);
    if (atomic.load<i32>(control + GENERATION) == awaited)
      atomic.wait<i32>(control + GENERATION, awaited, patience);
    atomic.sub<i32>(control + SLEEPERS, 1);
  }
  return atomic.load<i32>(control + GENERATION) != awaited;
}

/** Where the time after the next step goes, or 0. */
let times: usize = 0;

/**
 * Runs the steps from `start` to `end` as thread 0 of T. Returns 0 when all is done, else where to go on: the others have
 * been silent for long, and the caller is to see whether they live.
 */
export function run(start: usize, end: usize, T: i32): usize {
  let p = start;
  while (p < end) {
    const next = p + address(p, 1);
    if (pending != p) {
      execute(load<i32>(p), p + HEADER, 0, T);
      if (load<i32>(p, 8) & BARRIER && T > 1) {
        arrive(T);
        pending = p;
      }
    }
    if (pending == p) {
      if (!wait(PATIENCE)) return p;
      pending = 0;
    }
    if (times) {
      store<f64>(times, now());
      times += 8;
    }
    p = next;
  }
  return 0;
}

/** Gives the other threads the steps; `run` follows. Where `timesAt` is not 0, the time after each step is written there. */
export function begin(start: usize, end: usize, T: i32, timesAt: usize): void {
  pending = 0;
  times = timesAt;
  if (T == 1) return;
  atomic.store<i32>(control + JOB_START, <i32>start);
  atomic.store<i32>(control + JOB_END, <i32>end);
  atomic.store<i32>(control + JOB_THREADS, T);
  atomic.add<i32>(control + JOB, 1);
  if (atomic.load<i32>(control + JOB_SLEEPERS) > 0) atomic.notify(control + JOB, -1);
}

/** What thread t does from its beginning to its end: it waits for steps and runs them. */
export function work(t: i32, seen: i32): void {
  for (;;) {
    for (let i = 0; i < IDLE_SPINS && atomic.load<i32>(control + JOB) == seen; i++) {}
    while (atomic.load<i32>(control + JOB) == seen) {
      atomic.add<i32>(control + JOB_SLEEPERS, 1);
      atomic.wait<i32>(control + JOB, seen, -1);
      atomic.sub<i32>(control + JOB_SLEEPERS, 1);
    }
    seen++;
    const end = <usize>atomic.load<u32>(control + JOB_END);
    const T = atomic.load<i32>(control + JOB_THREADS);
    let next: usize = 0;
    for (let p = <usize>atomic.load<u32>(control + JOB_START); p < end; p = next) {
      // Behind the last barrier the words may already be another schedule's.
      next = p + address(p, 1);
      execute(load<i32>(p), p + HEADER, t, T);
      if (load<i32>(p, 8) & BARRIER) {
        arrive(T);
        while (!wait(-1)) {}
      }
    }
  }
}
