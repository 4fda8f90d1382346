// Element-wise computation: an interpreter of small programs over blocks of elements, with intermediate values in registers in scratch
// memory (a few kilobytes, within the L1 cache). One step of a schedule fuses many operators, and views (transposed, sliced or broadcast
// operands) need no copies.
import { Element, Instruction } from '../../../graph/lower/wasm/codes';
import {
  erf4,
  exp4,
  fromFloat16,
  log4,
  sigmoid4,
  silu4,
  softplus4,
  splat,
  tanh4,
  toBfloat16,
  toFloat16,
} from './math';
import { address, scratch, share, word } from './memory';

/** Elements of a block. A register has room for as many int64 numbers; other types use half of it. */
const BLOCK: i32 = 256;
const REGISTER: usize = 2048;
/** The most runs of a block. A run is a series of consecutive elements along the last axis. */
const RUNS: i32 = 64;
/** The indices along every axis of each run in the block. */
const PLACES: usize = 24 * REGISTER;

// @ts-ignore: decorator
@inline
function register(i: i32): usize {
  return scratch + <usize>i * REGISTER;
}

/**
 * words: rank, dims[rank], elements, length and unit of a share's lines, instructions, then 5 words each, then strides.
 * A block is made of as many runs as fit into it, so that short axes and narrow shares cost no more than long ones.
 */
export function map(a: usize, t: i32, T: i32): void {
  const rank = word(a, 0);
  const elements = word(a, rank + 1);
  const length = word(a, rank + 2);
  const unit = word(a, rank + 3);
  const from = share(length, unit, t, T);
  const to = share(length, unit, t + 1, T);
  const inner = rank > 0 ? word(a, rank) : 1;
  let runs = 0;
  let filled = 0;
  let size = 0;
  for (let line = 0; line < elements; line += length) {
    for (let at = line + from; at < line + to; at += size) {
      const first = at % inner;
      size = min(min(BLOCK, inner - first), line + to - at);
      // All runs of a block are of one size.
      if (runs > 0 && (filled + size > BLOCK || runs == RUNS || filled != runs * size)) {
        block(a, rank, runs, filled);
        runs = 0;
        filled = 0;
      }
      place(a, rank, runs++, at / inner, first);
      filled += size;
    }
  }
  if (runs > 0) block(a, rank, runs, filled);
}

/** Stores a run's index along every axis. */
function place(a: usize, rank: i32, run: i32, outer: i32, first: i32): void {
  const places = scratch + PLACES + (<usize>(run * rank) << 2);
  if (rank > 0) store<i32>(places + (<usize>(rank - 1) << 2), first);
  for (let d = rank - 2; d >= 0; d--) {
    const size = word(a, d + 1);
    const next = outer / size;
    store<i32>(places + (<usize>d << 2), outer - next * size);
    outer = next;
  }
}

/** Runs of one size, with `count` elements in all. */
function block(a: usize, rank: i32, runs: i32, count: i32): void {
  const program = a + (<usize>(rank + 5) << 2);
  const end = program + <usize>word(a, rank + 4) * 20;
  const n = count / runs;
  for (let p = program; p < end; p += 20) {
    const op = load<i32>(p);
    if (op > Instruction.store) {
      compute(op, p, count);
      continue;
    }
    const kind = load<i32>(p, 16);
    const bytes = <usize>n << (holdsIntegers(kind) ? 3 : 2);
    const strides = a + (<usize>load<i32>(p, 12) << 2);
    const stride = rank > 0 ? word(strides, rank - 1) : 0;
    const base = <usize>load<u32>(p, 8);
    let r = register(load<i32>(p, 4));
    let places = scratch + PLACES;
    for (let run = 0; run < runs; run++, r += bytes) {
      let offset = 0;
      for (let d = 0; d < rank; d++, places += 4) offset += load<i32>(places) * word(strides, d);
      if (op == Instruction.load) read(r, base, offset, stride, n, kind);
      else write(r, base, offset, stride, n, kind);
    }
  }
}

/** Whether registers hold elements of this type as int64. */
// @ts-ignore: decorator
@inline
function holdsIntegers(kind: i32): bool {
  return kind == Element.int64 || kind == Element.int32 || kind == Element.int8 || kind == Element.uint8;
}

function read(r: usize, base: usize, offset: i32, stride: i32, n: i32, kind: i32): void {
  if (kind == Element.float32) {
    let p = base + (<isize>offset << 2);
    if (stride == 1) {
      for (let i: usize = 0, e = <usize>n << 2; i < e; i += 16) v128.store(r + i, v128.load(p + i));
    } else if (stride == 0) {
      const x = v128.load32_splat(p);
      for (let i: usize = 0, e = <usize>n << 2; i < e; i += 16) v128.store(r + i, x);
    } else {
      for (let i = 0; i < n; i++, p += <isize>stride << 2) store<f32>(r + (<usize>i << 2), load<f32>(p));
    }
  } else if (kind == Element.int64) {
    let p = base + (<isize>offset << 3);
    for (let i = 0; i < n; i++, p += <isize>stride << 3) store<i64>(r + (<usize>i << 3), load<i64>(p));
  } else if (kind == Element.int32) {
    let p = base + (<isize>offset << 2);
    for (let i = 0; i < n; i++, p += <isize>stride << 2) store<i64>(r + (<usize>i << 3), load<i32>(p));
  } else if (kind == Element.bool) {
    let p = base + <isize>offset;
    for (let i = 0; i < n; i++, p += <isize>stride) store<i32>(r + (<usize>i << 2), load<u8>(p) ? -1 : 0);
  } else if (kind == Element.bfloat16) {
    let p = base + (<isize>offset << 1);
    for (let i = 0; i < n; i++, p += <isize>stride << 1) store<u32>(r + (<usize>i << 2), <u32>load<u16>(p) << 16);
  } else if (kind == Element.float16) {
    let p = base + (<isize>offset << 1);
    for (let i = 0; i < n; i++, p += <isize>stride << 1) store<f32>(r + (<usize>i << 2), fromFloat16(load<u16>(p)));
  } else if (kind == Element.int8) {
    let p = base + <isize>offset;
    for (let i = 0; i < n; i++, p += <isize>stride) store<i64>(r + (<usize>i << 3), load<i8>(p));
  } else {
    let p = base + <isize>offset;
    for (let i = 0; i < n; i++, p += <isize>stride) store<i64>(r + (<usize>i << 3), load<u8>(p));
  }
}

function write(r: usize, base: usize, offset: i32, stride: i32, n: i32, kind: i32): void {
  if (kind == Element.float32) {
    let p = base + (<isize>offset << 2);
    if (stride == 1) {
      let i: usize = 0;
      const whole = (<usize>n << 2) & ~15;
      const e = <usize>n << 2;
      for (; i < whole; i += 16) v128.store(p + i, v128.load(r + i));
      for (; i < e; i += 4) store<f32>(p + i, load<f32>(r + i));
    } else {
      for (let i = 0; i < n; i++, p += <isize>stride << 2) store<f32>(p, load<f32>(r + (<usize>i << 2)));
    }
  } else if (kind == Element.int64) {
    let p = base + (<isize>offset << 3);
    for (let i = 0; i < n; i++, p += <isize>stride << 3) store<i64>(p, load<i64>(r + (<usize>i << 3)));
  } else if (kind == Element.int32) {
    let p = base + (<isize>offset << 2);
    for (let i = 0; i < n; i++, p += <isize>stride << 2) store<i32>(p, <i32>load<i64>(r + (<usize>i << 3)));
  } else if (kind == Element.bool) {
    let p = base + <isize>offset;
    for (let i = 0; i < n; i++, p += <isize>stride) store<u8>(p, load<i32>(r + (<usize>i << 2)) ? 1 : 0);
  } else if (kind == Element.bfloat16) {
    let p = base + (<isize>offset << 1);
    for (let i = 0; i < n; i++, p += <isize>stride << 1) store<u16>(p, toBfloat16(load<f32>(r + (<usize>i << 2))));
  } else if (kind == Element.float16) {
    let p = base + (<isize>offset << 1);
    for (let i = 0; i < n; i++, p += <isize>stride << 1) store<u16>(p, toFloat16(load<f32>(r + (<usize>i << 2))));
  } else {
    let p = base + <isize>offset;
    for (let i = 0; i < n; i++, p += <isize>stride) store<u8>(p, <u8>load<i64>(r + (<usize>i << 3)));
  }
}

function compute(op: i32, p: usize, n: i32): void {
  const d = register(load<i32>(p, 4));
  if (op == Instruction.constantF) {
    const x = v128.load32_splat(p + 8);
    for (let i: usize = 0, e = <usize>n << 2; i < e; i += 16) v128.store(d + i, x);
    return;
  }
  if (op == Instruction.constantI) {
    const x = load<i64>(p, 8);
    for (let i: usize = 0, e = <usize>n << 3; i < e; i += 8) store<i64>(d + i, x);
    return;
  }
  if (op == Instruction.constantB) {
    const x = i32x4.splat(load<i32>(p, 8) ? -1 : 0);
    for (let i: usize = 0, e = <usize>n << 2; i < e; i += 16) v128.store(d + i, x);
    return;
  }
  const x = register(load<i32>(p, 8));
  if (op < Instruction.addF) {
    unary(op, d, x, n);
    return;
  }
  const y = register(load<i32>(p, 12));
  const z = register(load<i32>(p, 16));
  if (op < Instruction.addI) binary(op, d, x, y, z, n);
  else if (op < Instruction.andB) integers(op, d, x, y, z, n);
  else if (op < Instruction.castFI) truths(op, d, x, y, z, n);
  else cast(op, d, x, n);
}

function unary(op: i32, d: usize, x: usize, n: i32): void {
  const e = <usize>n << 2;
  switch (op) {
    case Instruction.negateF:
      for (let i: usize = 0; i < e; i += 16) v128.store(d + i, f32x4.neg(v128.load(x + i)));
      break;
    case Instruction.expF:
      for (let i: usize = 0; i < e; i += 16) v128.store(d + i, exp4(v128.load(x + i)));
      break;
    case Instruction.logF:
      for (let i: usize = 0; i < e; i += 16) v128.store(d + i, log4(v128.load(x + i)));
      break;
    case Instruction.sqrtF:
      for (let i: usize = 0; i < e; i += 16) v128.store(d + i, f32x4.sqrt(v128.load(x + i)));
      break;
    case Instruction.sinF:
      for (let i: usize = 0; i < e; i += 4) store<f32>(d + i, Mathf.sin(load<f32>(x + i)));
      break;
    case Instruction.cosF:
      for (let i: usize = 0; i < e; i += 4) store<f32>(d + i, Mathf.cos(load<f32>(x + i)));
      break;
    case Instruction.tanhF:
      for (let i: usize = 0; i < e; i += 16) v128.store(d + i, tanh4(v128.load(x + i)));
      break;
    case Instruction.sigmoidF:
      for (let i: usize = 0; i < e; i += 16) v128.store(d + i, sigmoid4(v128.load(x + i)));
      break;
    case Instruction.softplusF:
      for (let i: usize = 0; i < e; i += 16) v128.store(d + i, softplus4(v128.load(x + i)));
      break;
    case Instruction.absoluteF:
      for (let i: usize = 0; i < e; i += 16) v128.store(d + i, f32x4.abs(v128.load(x + i)));
      break;
    case Instruction.erfF:
      for (let i: usize = 0; i < e; i += 16) v128.store(d + i, erf4(v128.load(x + i)));
      break;
    case Instruction.siluF:
      for (let i: usize = 0; i < e; i += 16) v128.store(d + i, silu4(v128.load(x + i)));
      break;
    default:
      unreachable();
  }
}

function binary(op: i32, d: usize, x: usize, y: usize, z: usize, n: i32): void {
  const e = <usize>n << 2;
  switch (op) {
    case Instruction.addF:
      for (let i: usize = 0; i < e; i += 16) v128.store(d + i, f32x4.add(v128.load(x + i), v128.load(y + i)));
      break;
    case Instruction.subtractF:
      for (let i: usize = 0; i < e; i += 16) v128.store(d + i, f32x4.sub(v128.load(x + i), v128.load(y + i)));
      break;
    case Instruction.multiplyF:
      for (let i: usize = 0; i < e; i += 16) v128.store(d + i, f32x4.mul(v128.load(x + i), v128.load(y + i)));
      break;
    case Instruction.divideF:
      for (let i: usize = 0; i < e; i += 16) v128.store(d + i, f32x4.div(v128.load(x + i), v128.load(y + i)));
      break;
    case Instruction.powerF:
      for (let i: usize = 0; i < e; i += 4) store<f32>(d + i, Mathf.pow(load<f32>(x + i), load<f32>(y + i)));
      break;
    case Instruction.maximumF:
      for (let i: usize = 0; i < e; i += 16) v128.store(d + i, f32x4.max(v128.load(x + i), v128.load(y + i)));
      break;
    case Instruction.minimumF:
      for (let i: usize = 0; i < e; i += 16) v128.store(d + i, f32x4.min(v128.load(x + i), v128.load(y + i)));
      break;
    case Instruction.lessF:
      for (let i: usize = 0; i < e; i += 16) v128.store(d + i, f32x4.lt(v128.load(x + i), v128.load(y + i)));
      break;
    case Instruction.lessOrEqualF:
      for (let i: usize = 0; i < e; i += 16) v128.store(d + i, f32x4.le(v128.load(x + i), v128.load(y + i)));
      break;
    case Instruction.equalF:
      for (let i: usize = 0; i < e; i += 16) v128.store(d + i, f32x4.eq(v128.load(x + i), v128.load(y + i)));
      break;
    case Instruction.whereF:
      for (let i: usize = 0; i < e; i += 16)
        v128.store(d + i, v128.bitselect(v128.load(y + i), v128.load(z + i), v128.load(x + i)));
      break;
    default:
      unreachable();
  }
}

function powerOf(x: i64, y: i64): i64 {
  let result: i64 = 1;
  for (let base = x, left = y; left > 0; left >>= 1, base *= base) if (left & 1) result *= base;
  return result;
}

function integers(op: i32, d: usize, x: usize, y: usize, z: usize, n: i32): void {
  const e = <usize>n << 3;
  switch (op) {
    case Instruction.addI:
      for (let i: usize = 0; i < e; i += 8) store<i64>(d + i, load<i64>(x + i) + load<i64>(y + i));
      break;
    case Instruction.subtractI:
      for (let i: usize = 0; i < e; i += 8) store<i64>(d + i, load<i64>(x + i) - load<i64>(y + i));
      break;
    case Instruction.multiplyI:
      for (let i: usize = 0; i < e; i += 8) store<i64>(d + i, load<i64>(x + i) * load<i64>(y + i));
      break;
    case Instruction.divideI:
      for (let i: usize = 0; i < e; i += 8) {
        const by = load<i64>(y + i);
        store<i64>(d + i, by == 0 ? 0 : by == -1 ? -load<i64>(x + i) : load<i64>(x + i) / by);
      }
      break;
    case Instruction.maximumI:
      for (let i: usize = 0; i < e; i += 8) store<i64>(d + i, max(load<i64>(x + i), load<i64>(y + i)));
      break;
    case Instruction.minimumI:
      for (let i: usize = 0; i < e; i += 8) store<i64>(d + i, min(load<i64>(x + i), load<i64>(y + i)));
      break;
    // Booleans take half the bytes of the operands. In ascending order, none overwrites an operand that is still to be read.
    case Instruction.lessI:
      for (let i: usize = 0; i < e; i += 8) store<i32>(d + (i >> 1), load<i64>(x + i) < load<i64>(y + i) ? -1 : 0);
      break;
    case Instruction.lessOrEqualI:
      for (let i: usize = 0; i < e; i += 8) store<i32>(d + (i >> 1), load<i64>(x + i) <= load<i64>(y + i) ? -1 : 0);
      break;
    case Instruction.equalI:
      for (let i: usize = 0; i < e; i += 8) store<i32>(d + (i >> 1), load<i64>(x + i) == load<i64>(y + i) ? -1 : 0);
      break;
    case Instruction.whereI:
      for (let i: usize = 0; i < e; i += 8)
        store<i64>(d + i, load<i32>(x + (i >> 1)) ? load<i64>(y + i) : load<i64>(z + i));
      break;
    case Instruction.negateI:
      for (let i: usize = 0; i < e; i += 8) store<i64>(d + i, -load<i64>(x + i));
      break;
    case Instruction.absoluteI:
      for (let i: usize = 0; i < e; i += 8) store<i64>(d + i, abs(load<i64>(x + i)));
      break;
    case Instruction.powerI:
      for (let i: usize = 0; i < e; i += 8) store<i64>(d + i, powerOf(load<i64>(x + i), load<i64>(y + i)));
      break;
    default:
      unreachable();
  }
}

function truths(op: i32, d: usize, x: usize, y: usize, z: usize, n: i32): void {
  const e = <usize>n << 2;
  switch (op) {
    case Instruction.andB:
      for (let i: usize = 0; i < e; i += 16) v128.store(d + i, v128.and(v128.load(x + i), v128.load(y + i)));
      break;
    case Instruction.orB:
      for (let i: usize = 0; i < e; i += 16) v128.store(d + i, v128.or(v128.load(x + i), v128.load(y + i)));
      break;
    case Instruction.notB:
      for (let i: usize = 0; i < e; i += 16) v128.store(d + i, v128.not(v128.load(x + i)));
      break;
    case Instruction.equalB:
      for (let i: usize = 0; i < e; i += 16)
        v128.store(d + i, v128.not(v128.xor(v128.load(x + i), v128.load(y + i))));
      break;
    case Instruction.whereB:
      for (let i: usize = 0; i < e; i += 16)
        v128.store(d + i, v128.bitselect(v128.load(y + i), v128.load(z + i), v128.load(x + i)));
      break;
    default:
      unreachable();
  }
}

/** The result has a register of its own. */
function cast(op: i32, d: usize, x: usize, n: i32): void {
  switch (op) {
    case Instruction.castFI:
      for (let i: usize = 0, e = <usize>n; i < e; i++) store<i64>(d + (i << 3), truncated(load<f32>(x + (i << 2))));
      break;
    case Instruction.castFB:
      for (let i: usize = 0, e = <usize>n; i < e; i++) store<i32>(d + (i << 2), load<f32>(x + (i << 2)) != 0 ? -1 : 0);
      break;
    case Instruction.castIF:
      for (let i: usize = 0, e = <usize>n; i < e; i++) store<f32>(d + (i << 2), <f32>load<i64>(x + (i << 3)));
      break;
    case Instruction.castIB:
      for (let i: usize = 0, e = <usize>n; i < e; i++) store<i32>(d + (i << 2), load<i64>(x + (i << 3)) != 0 ? -1 : 0);
      break;
    case Instruction.castBF: {
      const one = splat(1);
      for (let i: usize = 0, e = <usize>n << 2; i < e; i += 16) v128.store(d + i, v128.and(v128.load(x + i), one));
      break;
    }
    case Instruction.castBI:
      for (let i: usize = 0, e = <usize>n; i < e; i++) store<i64>(d + (i << 3), load<i32>(x + (i << 2)) ? 1 : 0);
      break;
    default:
      unreachable();
  }
}

/** Truncates towards zero; saturates to the int64 range. */
// @ts-ignore: decorator
@inline
function truncated(x: f32): i64 {
  if (x != x) return 0;
  if (x >= <f32>9223372036854775808.0) return i64.MAX_VALUE;
  return x <= <f32>-9223372036854775808.0 ? i64.MIN_VALUE : <i64>x;
}
