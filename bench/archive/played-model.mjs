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

const memcpy = koffi.load(null).func('void *memcpy(_Out_ uint8_t *to, uint8_t *from, size_t bytes)');

/** What the reading of an archive needs of a `LanguageModel`. */
export async function playedModel(shape, folder, cache) {
  const model = cache ? withModelCache(modelOf(shape), cache) : modelOf(shape);
  const tokenizer = await loadTokenizerOrIds(folder, model.vocabSize);
  const specs = model.state;
  const elements = (dims) => dims.reduce((a, b) => a * b, 1);
  const dimsOf = ({ shape }, rows, room) =>
    shape.map((dim) => (dim === 'batch' ? rows : dim === 'past' ? room : dim));
  const bytesOf = (spec, rows, room) => elements(dimsOf(spec, rows, room)) * DTYPES[spec.dtype].bytes;
  const source = Buffer.alloc(Math.max(...specs.map((spec) => bytesOf(spec, 1, 65_536))), 1);
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
  const reader = {
    async download({ row, spec }) {
      const data = new DTYPES[spec.dtype].array(elements(row.dims));
      const slot = turn++ % COPIES;
      const copied = line[slot].then(
        () =>
          new Promise((resolve, reject) =>
            memcpy.async(data, source, data.byteLength, (error) => (error ? reject(error) : resolve())),
          ),
      );
      line[slot] = copied;
      await copied;
      counts.downloads++;
      counts.downloaded += data.byteLength;
      return data;
    },
    async takeOut(state) {
      state.moveTo(batchOf(1, roomOf(state.length)), 0);
    },
  };
  const device = {};
  let last = Promise.resolve();
  return {
    counts,
    model,
    tokenizer,
    fingerprint: { hash: `played ${shape}`, quantization: cache ? `none, with a cache in ${cache}` : 'none' },
    chunk: 16_384,
    pieceOf: () => PIECES[0],
    newState: () => new XlaState(device, reader, batchOf(1, roomOf(0)), 0, 0),
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
      return rows.map(() => new Float32Array(model.vocabSize));
    },
    async dispose() {},
  };
}
