/**
 * A model without weights on a GPU that is played: its runs take as long as they did on an H200, and compute nothing. Its states are those of
 * the executor `xla`, of a shape's true sizes, and are copied to the host by threads. So all that happens beside the reading can be measured
 * on a machine without a GPU.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import koffi from 'koffi';
import { Batch, XlaState } from '../../dist/engine/xla/state.js';
import { DTYPES } from '../../dist/graph/index.js';
import { withModelCache } from '../../dist/models/index.js';
import { loadTokenizerOrIds } from '../../dist/text/index.js';
import { modelOf } from './shapes.mjs';

/** Of all rows together, on one H200. */
const TOKENS_PER_SECOND = 217_000;
/** Seconds that a run takes at least. */
const SHORTEST_RUN = 0.005;
const PIECES = [512, 64, 8, 1];
/** Copies to the host that are under way at a time. */
const COPIES = 2;
/** Values of fewer bytes are copied together. */
const PACKED_BYTES = 4e6;

const memcpy = koffi.load(null).func('void *memcpy(void *to, void *from, size_t bytes)');

/** What the reading of an archive needs of a `LanguageModel`. */
export async function playedModel(shape, folder, cache) {
  const model = cache ? withModelCache(modelOf(shape), cache) : modelOf(shape);
  const tokenizer = await loadTokenizerOrIds(folder, model.vocabSize);
  const specs = model.state;
  const elements = (dims) => dims.reduce((a, b) => a * b, 1);
  const dimsOf = ({ shape }, rows, room) =>
    shape.map((dim) => (dim === 'batch' ? rows : dim === 'past' ? room : dim));
  const bytesOf = (spec, rows, room) => elements(dimsOf(spec, rows, room)) * DTYPES[spec.dtype].bytes;
  const sizes = specs.map((spec) => bytesOf(spec, 1, 65_536));
  const packed = sizes.reduce((sum, size) => sum + Math.min(size, PACKED_BYTES), 0);
  const source = Buffer.alloc(Math.max(packed, ...sizes), 1);
  const roomOf = (entries) => {
    if (!specs.some(({ grows }) => grows !== undefined)) return 0;
    let room = 1024;
    while (room < entries) room *= 4;
    return room;
  };
  const counts = { downloaded: 0, downloads: 0 };
  const batchOf = (rows, room) =>
    new Batch(
      rows,
      room,
      new Map(
        specs.map((spec) => [
          spec.name,
          {
            spec,
            row: { dims: dimsOf(spec, rows, room) },
            buffers: [{ bytes: bytesOf(spec, rows, room), dispose() {} }],
          },
        ]),
      ),
    );
  const line = Array.from({ length: COPIES }, () => Promise.resolve());
  let turn = 0;
  const copy = async (data) => {
    const slot = turn++ % COPIES;
    const copied = line[slot].then(
      () =>
        new Promise((resolve, reject) =>
          memcpy.async(koffi.address(data), koffi.address(source), data.byteLength, (error) =>
            error ? reject(error) : resolve(),
          ),
        ),
    );
    line[slot] = copied;
    await copied;
    counts.downloads++;
    counts.downloaded += data.byteLength;
  };
  const device = {
    // As the executor does: small values of a dtype are parts of one array.
    async read({ batch, length }, names) {
      const { room } = batch;
      const entries = Math.min(room, Math.ceil(length / (room / 4 || 1)) * (room / 4));
      const values = names.map((name) => batch.values.get(name));
      const sizeOf = ({ spec }) => elements(dimsOf(spec, 1, entries));
      const isSmall = (value) => sizeOf(value) * DTYPES[value.spec.dtype].bytes < PACKED_BYTES;
      const data = new Map();
      const copies = [];
      for (const dtype of new Set(values.filter(isSmall).map(({ spec }) => spec.dtype))) {
        const parts = values.filter((value) => isSmall(value) && value.spec.dtype === dtype);
        const { array, bytes } = DTYPES[dtype];
        const total = parts.reduce((sum, part) => sum + sizeOf(part), 0);
        const all = new array(Buffer.allocUnsafeSlow(total * bytes).buffer);
        copies.push(copy(all));
        let at = 0;
        for (const part of parts) {
          data.set(part, all.subarray(at, at + sizeOf(part)));
          at += sizeOf(part);
        }
      }
      for (const value of values.filter((each) => !data.has(each))) {
        const { array, bytes } = DTYPES[value.spec.dtype];
        const own = new array(Buffer.allocUnsafeSlow(sizeOf(value) * bytes).buffer);
        data.set(value, own);
        copies.push(copy(own));
      }
      await Promise.all(copies);
      return { data: values.map((value) => data.get(value)), room: entries };
    },
  };
  let last = Promise.resolve();
  return {
    counts,
    model,
    tokenizer,
    fingerprint: { hash: `played ${shape}`, quantization: cache ? `none, with a cache in ${cache}` : 'none' },
    chunk: 16_384,
    pieceOf: () => PIECES[0],
    roomOf,
    newState: () => new XlaState(device, batchOf(1, roomOf(0)), 0, 0),
    async readTogether(rows, most) {
      const states = rows.map(({ state }) => state.fork());
      const run = last.then(async () => {
        const lefts = rows.map(({ ids }) => ids.length);
        let seconds = 0;
        for (const piece of PIECES) {
          while (lefts.some((left) => left >= piece)) {
            for (const [i, left] of lefts.entries()) if (left >= piece) lefts[i] -= piece;
            seconds += Math.max(SHORTEST_RUN, (most * piece) / TOKENS_PER_SECOND);
          }
        }
        await sleep(1000 * seconds);
      });
      last = run;
      await run;
      for (const state of states) state.dispose();
      const room = roomOf(Math.max(...rows.map(({ expected }) => expected)));
      const batch = batchOf(most, room);
      for (const [i, { state, ids }] of rows.entries()) {
        state.moveTo(batch, i);
        state.length += ids.length;
      }
      return rows.map(({ needsLogits }) => (needsLogits ? new Float32Array(model.vocabSize) : undefined));
    },
    async dispose() {},
  };
}
