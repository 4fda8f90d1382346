/**
 * `npm run bench -- drift`: the effect of rounding on a state over a million tokens. Each kind of layer reads the same random tokens twice: one by
 * one on the wasm device, and in chunks on ONNX Runtime, which sums in another order. If rounding errors accumulated, both results would diverge.
 */
import type { Command } from 'commander';
import { type Executable, int64, openDevice, type State } from '../engine/index.js';
import { decoderPrograms } from '../generate/index.js';
import { hybridModel, modelConfig, parametersOf } from '../models/index.js';
import { Random } from '../nn/index.js';
import { initialWeights } from '../train/index.js';
import { describeMachine } from './machine.js';
import { positive } from './positive.js';
import { machineText } from './report.js';
import { table } from './table.js';

interface DriftOptions {
  readonly letters: readonly string[];
  readonly tokens: number;
}

const VOCABULARY = 64;
const PIECE = 1000;

/** Reads tokens into a state, and returns the logits after the last one. */
interface Reader {
  read(tokens: readonly number[]): Promise<Float32Array>;
  dispose(): Promise<void>;
}

function readerOf(executable: Executable): Reader {
  const state: State = executable.newState();
  let position = 0;
  return {
    async read(tokens) {
      const feeds = {
        ids: int64(tokens, [1, tokens.length]),
        position: int64([position], [1]),
        places: int64([tokens.length - 1], [1]),
      };
      position += tokens.length;
      return (await executable.run(feeds, [state])).logits!.data as Float32Array;
    },
    async dispose() {
      state.dispose();
      await executable.dispose();
    },
  };
}

/** |a - b| / |b| */
function difference(a: Float32Array, b: Float32Array): number {
  return Math.hypot(...a.map((value, i) => value - b[i]!)) / Math.hypot(...b);
}

/** The largest relative difference at the ends of chunks, for each power of ten of tokens since the previous power. */
async function drift(letter: string, tokens: number): Promise<number[]> {
  const config = modelConfig({
    modelType: 'heddle',
    vocabSize: VOCABULARY,
    hiddenSize: 32,
    pattern: letter,
    intermediateSize: 32,
    maxPositionEmbeddings: PIECE,
    mambaNumHeads: 4,
    mambaHeadDim: 16,
    ssmStateSize: 16,
    linearKeyHeadDim: 16,
    attentionWindow: 16,
    attentionSelected: 16,
    eosTokenId: 0,
  });
  const model = hybridModel(config);
  const programs = decoderPrograms(model, initialWeights(parametersOf(model), 1));
  const [cpu, wasm] = [await openDevice('cpu', { threads: 1 }), await openDevice('wasm', { threads: 1 })];
  const inPieces = readerOf(await cpu.compile(programs.read));
  const oneByOne = readerOf(await wasm.compile(programs.write));
  const random = new Random(1);
  const largest: number[] = [];
  let most = 0;
  for (let read = PIECE, mark = PIECE; read <= tokens; read += PIECE) {
    const piece = Array.from({ length: PIECE }, () => random.below(VOCABULARY));
    const wanted = await inPieces.read(piece);
    let found = wanted;
    for (const token of piece) found = await oneByOne.read([token]);
    most = Math.max(most, difference(found, wanted));
    if (read === mark) {
      largest.push(most);
      most = 0;
      mark *= 10;
    }
  }
  for (const reader of [inPieces, oneByOne]) await reader.dispose();
  await Promise.all([cpu.dispose(), wasm.dispose()]);
  return largest;
}

async function runDrift({ letters, tokens }: DriftOptions): Promise<void> {
  console.log(machineText(describeMachine('cpu', 1)));
  const rows: string[][] = [];
  for (const letter of letters) {
    rows.push([letter, ...(await drift(letter, tokens)).map((value) => value.toExponential(1))]);
  }
  const marks = rows[0]!.slice(1).map((_, i) => (PIECE * 10 ** i).toLocaleString('en'));
  console.log(
    'one by one and in chunks of 1,000: the largest relative difference of the logits up to this many tokens',
  );
  console.log(table([['layer', ...marks], ...rows]));
}

/** Adds the command `drift`. */
export function addDriftCommand(parent: Command): void {
  parent
    .command('drift')
    .description('effect of rounding on the state of each kind of layer over a million tokens')
    .option('--letters <list>', 'letters of layers, as in patterns', (text) => text.split(','), [
      ...'MmNGgKDVLRIS',
    ])
    .option('--tokens <n>', 'tokens of the stream', positive, 1_000_000)
    .action((options: DriftOptions) => runDrift(options));
}
