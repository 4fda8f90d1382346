// The linear recurrence with all its update rules. A run reads states from one address and writes them to another, so that a run that fails
// leaves them unchanged. A table has the addresses of a batch's rows.
import { exp1, exp4, splat } from './math';
import { address, cut, rowOf, scratch, tokenAt, word } from './memory';

/**
 * words: batch, sequence, heads, query heads, key heads, key size, value size, gates (0 none, 1 a head, 2 a key), then
 * query, key, value, gate, beta, find, remove with 3 words each (0 where one is not there), states before (a table, or 0), states
 * after, y.
 */
export function recurrence(a: usize, t: i32, T: i32): void {
  const batch = word(a, 0);
  const sequence = word(a, 1);
  const heads = word(a, 2);
  const queryHeads = word(a, 3);
  const keyHeads = word(a, 4);
  const keySize = word(a, 5);
  const valueSize = word(a, 6);
  const gates = word(a, 7);
  const before = address(a, 29);
  const after = address(a, 30);
  const y = address(a, 31);
  const hasBeta = address(a, 20) != 0;
  const hasErase = address(a, 23) != 0;
  const isPlain = !hasBeta && !hasErase && gates != 2;
  const area = <usize>(keySize * valueSize) << 2;
  const units = batch * heads;
  const decays = scratch;
  for (let unit = cut(units, t, T), end = cut(units, t + 1, T); unit < end; unit++) {
    const row = unit / heads;
    const h = unit % heads;
    const to = rowOf(after, row) + <usize>h * area;
    let from = to;
    if (before) from = rowOf(before, row) + <usize>h * area;
    else memory.fill(to, 0, area);
    const queryHead = (h * queryHeads) / heads;
    const keyHead = (h * keyHeads) / heads;
    for (let token = 0; token < sequence; token++) {
      const q = tokenAt(a, 8, row, token) + (<usize>(queryHead * keySize) << 2);
      const k = tokenAt(a, 11, row, token) + (<usize>(keyHead * keySize) << 2);
      const v = tokenAt(a, 14, row, token) + (<usize>(h * valueSize) << 2);
      const out = y + (<usize>(((row * sequence + token) * heads + h) * valueSize) << 2);
      const beta = hasBeta ? load<f32>(tokenAt(a, 20, row, token) + (<usize>h << 2)) : 0;
      let decay: f32 = 1;
      if (gates == 1) decay = exp1(load<f32>(tokenAt(a, 17, row, token) + (<usize>h << 2)));
      if (gates == 2) {
        const g = tokenAt(a, 17, row, token) + (<usize>(h * keySize) << 2);
        let i = 0;
        for (; i + 4 <= keySize; i += 4) v128.store(decays + (<usize>i << 2), exp4(v128.load(g + (<usize>i << 2))));
        for (; i < keySize; i++) store<f32>(decays + (<usize>i << 2), exp1(load<f32>(g + (<usize>i << 2))));
      } else if (!isPlain || valueSize < 16 || (valueSize & 15) != 0) {
        for (let i = 0; i < keySize; i++) store<f32>(decays + (<usize>i << 2), decay);
      }
      let column = 0;
      const stride = <usize>valueSize << 2;
      if (hasErase) {
        const f = tokenAt(a, 23, row, token) + (<usize>(keyHead * keySize) << 2);
        const r = tokenAt(a, 26, row, token) + (<usize>(keyHead * keySize) << 2);
        for (; column + 4 <= valueSize; column += 4) {
          const c = <usize>column << 2;
          erase4(from + c, to + c, stride, keySize, k, q, v + c, out + c, decays, f, r);
        }
        for (; column < valueSize; column++) {
          const c = <usize>column << 2;
          erase1(from + c, to + c, stride, keySize, k, q, v + c, out + c, decays, f, r);
        }
      }
      if (isPlain) {
        for (; column + 16 <= valueSize; column += 16) {
          const c = <usize>column << 2;
          plain16(from + c, to + c, stride, keySize, k, q, v + c, out + c, decay);
        }
      }
      for (; column + 16 <= valueSize; column += 16) {
        const c = <usize>column << 2;
        columns16(from + c, to + c, stride, keySize, k, q, v + c, out + c, decays, hasBeta, beta);
      }
      for (; column + 4 <= valueSize; column += 4) {
        const c = <usize>column << 2;
        columns4(from + c, to + c, stride, keySize, k, q, v + c, out + c, decays, hasBeta, beta);
      }
      for (; column < valueSize; column++) {
        const c = <usize>column << 2;
        column1(from + c, to + c, stride, keySize, k, q, v + c, out + c, decays, hasBeta, beta);
      }
      from = to;
    }
  }
}

/** 16 columns of S = decay * S + k v^T and y = S^T q. */
function plain16(
  from: usize,
  to: usize,
  stride: usize,
  keySize: i32,
  k: usize,
  q: usize,
  v: usize,
  out: usize,
  decay: f32,
): void {
  const g = splat(decay);
  const v0 = v128.load(v);
  const v1 = v128.load(v, 16);
  const v2 = v128.load(v, 32);
  const v3 = v128.load(v, 48);
  let y0 = splat(0);
  let y1 = y0;
  let y2 = y0;
  let y3 = y0;
  for (let i = 0; i < keySize; i++) {
    const kk = v128.load32_splat(k);
    const qq = v128.load32_splat(q);
    const s0 = f32x4.add(f32x4.mul(v128.load(from), g), f32x4.mul(kk, v0));
    const s1 = f32x4.add(f32x4.mul(v128.load(from, 16), g), f32x4.mul(kk, v1));
    const s2 = f32x4.add(f32x4.mul(v128.load(from, 32), g), f32x4.mul(kk, v2));
    const s3 = f32x4.add(f32x4.mul(v128.load(from, 48), g), f32x4.mul(kk, v3));
    v128.store(to, s0);
    v128.store(to, s1, 16);
    v128.store(to, s2, 32);
    v128.store(to, s3, 48);
    y0 = f32x4.add(y0, f32x4.mul(s0, qq));
    y1 = f32x4.add(y1, f32x4.mul(s1, qq));
    y2 = f32x4.add(y2, f32x4.mul(s2, qq));
    y3 = f32x4.add(y3, f32x4.mul(s3, qq));
    from += stride;
    to += stride;
    k += 4;
    q += 4;
  }
  v128.store(out, y0);
  v128.store(out, y1, 16);
  v128.store(out, y2, 32);
  v128.store(out, y3, 48);
}

/** As `columns4` for 16 columns, a cache line of each row: the rows of a large state are too far apart for lines to stay in the cache. */
function columns16(
  from: usize,
  to: usize,
  stride: usize,
  keySize: i32,
  k: usize,
  q: usize,
  v: usize,
  out: usize,
  decays: usize,
  hasBeta: bool,
  beta: f32,
): void {
  const end = <usize>keySize << 2;
  let w0 = v128.load(v);
  let w1 = v128.load(v, 16);
  let w2 = v128.load(v, 32);
  let w3 = v128.load(v, 48);
  if (hasBeta) {
    let f0 = splat(0);
    let f1 = f0;
    let f2 = f0;
    let f3 = f0;
    let p = from;
    for (let i: usize = 0; i < end; i += 4) {
      const d = v128.load32_splat(decays + i);
      const kk = v128.load32_splat(k + i);
      f0 = f32x4.add(f0, f32x4.mul(f32x4.mul(v128.load(p), d), kk));
      f1 = f32x4.add(f1, f32x4.mul(f32x4.mul(v128.load(p, 16), d), kk));
      f2 = f32x4.add(f2, f32x4.mul(f32x4.mul(v128.load(p, 32), d), kk));
      f3 = f32x4.add(f3, f32x4.mul(f32x4.mul(v128.load(p, 48), d), kk));
      p += stride;
    }
    const b = splat(beta);
    w0 = f32x4.mul(f32x4.sub(w0, f0), b);
    w1 = f32x4.mul(f32x4.sub(w1, f1), b);
    w2 = f32x4.mul(f32x4.sub(w2, f2), b);
    w3 = f32x4.mul(f32x4.sub(w3, f3), b);
  }
  let y0 = splat(0);
  let y1 = y0;
  let y2 = y0;
  let y3 = y0;
  for (let i: usize = 0; i < end; i += 4) {
    const d = v128.load32_splat(decays + i);
    const kk = v128.load32_splat(k + i);
    const qq = v128.load32_splat(q + i);
    const s0 = f32x4.add(f32x4.mul(v128.load(from), d), f32x4.mul(kk, w0));
    const s1 = f32x4.add(f32x4.mul(v128.load(from, 16), d), f32x4.mul(kk, w1));
    const s2 = f32x4.add(f32x4.mul(v128.load(from, 32), d), f32x4.mul(kk, w2));
    const s3 = f32x4.add(f32x4.mul(v128.load(from, 48), d), f32x4.mul(kk, w3));
    v128.store(to, s0);
    v128.store(to, s1, 16);
    v128.store(to, s2, 32);
    v128.store(to, s3, 48);
    y0 = f32x4.add(y0, f32x4.mul(s0, qq));
    y1 = f32x4.add(y1, f32x4.mul(s1, qq));
    y2 = f32x4.add(y2, f32x4.mul(s2, qq));
    y3 = f32x4.add(y3, f32x4.mul(s3, qq));
    from += stride;
    to += stride;
  }
  v128.store(out, y0);
  v128.store(out, y1, 16);
  v128.store(out, y2, 32);
  v128.store(out, y3, 48);
}

/** 4 columns with any update rule. Under the delta rule, what the key retrieves from the decayed state is subtracted from the value. */
function columns4(
  from: usize,
  to: usize,
  stride: usize,
  keySize: i32,
  k: usize,
  q: usize,
  v: usize,
  out: usize,
  decays: usize,
  hasBeta: bool,
  beta: f32,
): void {
  let written = v128.load(v);
  if (hasBeta) {
    let found = splat(0);
    let p = from;
    for (let i: usize = 0, e = <usize>keySize << 2; i < e; i += 4) {
      const d = f32x4.mul(v128.load(p), v128.load32_splat(decays + i));
      found = f32x4.add(found, f32x4.mul(d, v128.load32_splat(k + i)));
      p += stride;
    }
    written = f32x4.mul(f32x4.sub(written, found), splat(beta));
  }
  let y = splat(0);
  for (let i: usize = 0, e = <usize>keySize << 2; i < e; i += 4) {
    const s = f32x4.add(
      f32x4.mul(v128.load(from), v128.load32_splat(decays + i)),
      f32x4.mul(v128.load32_splat(k + i), written),
    );
    v128.store(to, s);
    y = f32x4.add(y, f32x4.mul(s, v128.load32_splat(q + i)));
    from += stride;
    to += stride;
  }
  v128.store(out, y);
}

function column1(
  from: usize,
  to: usize,
  stride: usize,
  keySize: i32,
  k: usize,
  q: usize,
  v: usize,
  out: usize,
  decays: usize,
  hasBeta: bool,
  beta: f32,
): void {
  let written = load<f32>(v);
  if (hasBeta) {
    let found: f32 = 0;
    let p = from;
    for (let i: usize = 0, e = <usize>keySize << 2; i < e; i += 4) {
      found += load<f32>(p) * load<f32>(decays + i) * load<f32>(k + i);
      p += stride;
    }
    written = (written - found) * beta;
  }
  let y: f32 = 0;
  for (let i: usize = 0, e = <usize>keySize << 2; i < e; i += 4) {
    const s = load<f32>(from) * load<f32>(decays + i) + load<f32>(k + i) * written;
    store<f32>(to, s);
    y += s * load<f32>(q + i);
    from += stride;
    to += stride;
  }
  store<f32>(out, y);
}

/** 4 columns of the generalized delta rule: what is retrieved with key f is erased with key r. */
function erase4(
  from: usize,
  to: usize,
  stride: usize,
  keySize: i32,
  k: usize,
  q: usize,
  v: usize,
  out: usize,
  decays: usize,
  f: usize,
  r: usize,
): void {
  const written = v128.load(v);
  let found = splat(0);
  let p = from;
  const end = <usize>keySize << 2;
  for (let i: usize = 0; i < end; i += 4) {
    const d = f32x4.mul(v128.load(p), v128.load32_splat(decays + i));
    found = f32x4.add(found, f32x4.mul(d, v128.load32_splat(f + i)));
    p += stride;
  }
  let y = splat(0);
  for (let i: usize = 0; i < end; i += 4) {
    const d = f32x4.mul(v128.load(from), v128.load32_splat(decays + i));
    const s = f32x4.sub(
      f32x4.add(d, f32x4.mul(v128.load32_splat(k + i), written)),
      f32x4.mul(v128.load32_splat(r + i), found),
    );
    v128.store(to, s);
    y = f32x4.add(y, f32x4.mul(s, v128.load32_splat(q + i)));
    from += stride;
    to += stride;
  }
  v128.store(out, y);
}

function erase1(
  from: usize,
  to: usize,
  stride: usize,
  keySize: i32,
  k: usize,
  q: usize,
  v: usize,
  out: usize,
  decays: usize,
  f: usize,
  r: usize,
): void {
  const written = load<f32>(v);
  let found: f32 = 0;
  let p = from;
  const end = <usize>keySize << 2;
  for (let i: usize = 0; i < end; i += 4) {
    found += load<f32>(p) * load<f32>(decays + i) * load<f32>(f + i);
    p += stride;
  }
  let y: f32 = 0;
  for (let i: usize = 0; i < end; i += 4) {
    const s = load<f32>(from) * load<f32>(decays + i) + load<f32>(k + i) * written - load<f32>(r + i) * found;
    store<f32>(to, s);
    y += s * load<f32>(q + i);
    from += stride;
    to += stride;
  }
  store<f32>(out, y);
}
