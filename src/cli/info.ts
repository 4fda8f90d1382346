/** `heddle info`: describes a model and its costs, from its config and the headers of its weights. */
import { readdir, stat } from 'node:fs/promises';
import type { Command } from 'commander';
import { openWeights } from '../checkpoint/index.js';
import { isGguf, readGguf } from '../gguf.js';
import {
  contextLength,
  countParameters,
  ggufMemory,
  letterName,
  lettersIn,
  locateWeights,
  type Model,
  modelFolder,
  parametersOf,
  readModel,
  servedContext,
  TOKENS,
  type Unit,
  usedTensors,
  weightBytes,
} from '../models/index.js';
import { stateBytes } from '../nn/index.js';
import { formatBytes, formatCount, formatDuration, table } from './format.js';
import { MODEL_HELP } from './loading-options.js';

/** Arguments and action of `heddle info`. */
export function configure(command: Command): void {
  command.argument('<model>', MODEL_HELP).action(run);
}

/** The lengths at which states are told, in the unit of what a model reads. */
const LENGTHS = [1_000, 32_000, 128_000, 1_000_000];
const SECONDS = [10, 60, 600, 3600];
const STRIP_WIDTH = 100;

async function run(name: string): Promise<void> {
  const folder = modelFolder(name);
  const model = await readModel(folder);
  const parameters = countParameters(parametersOf(model));
  const stored = (await hasWeights(folder)) ? await storedBytes(folder, model) : undefined;
  const wide = 4 * parameters;
  const loaded = stored?.loaded ?? wide;
  const available = process.availableMemory();
  const lines = [
    `${name}: ${model.modelType}, ${formatCount(parameters)} parameters, ${model.modality?.about ?? `vocabulary ${model.vocabSize.toLocaleString('en')}${trainedOn(model)}`}`,
    '',
    `layers   ${model.pattern}`,
    ...strip(model),
    ...legend(model),
    ...sourceLines(model),
    '',
    stored
      ? `weights  ${formatBytes(stored.bytes)} of ${stored.dtypes.join(', ')} in ${stored.files} ${stored.files === 1 ? 'file' : 'files'}; ${formatBytes(loaded)} loaded${loaded === wide ? ' as float32' : ', matrices in few bits'}`
      : `weights  none beside the config; they would take ${formatBytes(2 * parameters)} in bfloat16, ${formatBytes(loaded)} loaded as float32`,
    ...bitsLines(model),
    ...(stored?.besides ?? []),
    '',
    ...(isStream(model) ? ['state of one sequence', stateTable(model), ''] : []),
    ...room(model, loaded, available),
  ];
  process.stdout.write(`${lines.join('\n')}\n`);
}

/** The quantization of the matrices, and of layers that differ. */
function bitsLines({ quantization }: Model): string[] {
  if (!quantization) return [];
  const { bits, block, layers = {} } = quantization;
  const others = Object.entries(layers).map(
    ([letters, own]) => `; ${own} in ${letterName(letters)} (${letters})`,
  );
  return [`bits     ${bits} of a number, in blocks of ${block}${others.join('')}`];
}

/** Whether there are weights; a config alone is enough for estimates. */
async function hasWeights(folder: string): Promise<boolean> {
  if (await isGguf(folder)) return true;
  return (await readdir(folder)).some((name) => /\.(?:safetensors(?:\.index\.json)?|bin|pth?)$/.test(name));
}

async function storedBytes(
  folder: string,
  model: Model,
): Promise<{ bytes: number; loaded: number; dtypes: string[]; files: number; besides?: string[] }> {
  // The weights are checked against the config, as when the model is loaded.
  if (await isGguf(folder)) {
    const loaded = await ggufMemory(folder, model);
    const tensors = [...(await readGguf(folder)).tensors.values()];
    const files = new Set(tensors.map(({ path }) => path));
    const sizes = await Promise.all([...files].map(async (path) => (await stat(path)).size));
    return {
      bytes: sizes.reduce((a, b) => a + b, 0),
      loaded,
      dtypes: [...new Set(tensors.map(({ type }) => type))],
      files: files.size,
    };
  }
  const weights = await locateWeights(folder, model);
  const files = await openWeights(folder);
  try {
    const tensors = [...files.tensors.values()];
    const used = await usedTensors(files, model);
    return {
      besides: besides([...files.tensors.keys()].filter((name) => !used.has(name))),
      bytes: tensors.reduce((sum, { byteLength }) => sum + byteLength, 0),
      loaded: [...weights.values()].reduce((sum, weight) => sum + weightBytes(weight), 0),
      dtypes: [...new Set(tensors.map(({ dtype }) => dtype))],
      files: new Set(tensors.map(({ path }) => path)).size,
    };
  } finally {
    await files.close();
  }
}

/** Descriptions of name prefixes. */
const BESIDES: readonly (readonly [RegExp, string])[] = [
  [/^(?:model\.)?mtp\b|nextn/, 'predicts several tokens at once'],
  [/visual|vision|image/, 'sees images'],
  [/audio|sound/, 'hears'],
];

/** Tensors that the model does not use, by the prefixes of their names. */
function besides(names: readonly string[]): string[] {
  const groups = new Map<string, number>();
  for (const name of names) {
    const parts = name.split('.');
    const group = parts.slice(0, parts[0] === 'model' && parts.length > 2 ? 2 : 1).join('.');
    groups.set(group, (groups.get(group) ?? 0) + 1);
  }
  return [...groups].map(([group, count]) => {
    const what = BESIDES.find(([pattern]) => pattern.test(group))?.[1];
    const tensors = `${count.toLocaleString('en')} ${count === 1 ? 'tensor' : 'tensors'}`;
    return `         passed over: ${group}.* (${tensors})${what ? `, which ${what}` : ''}`;
  });
}

function trainedOn(model: Model): string {
  const { maxPositionEmbeddings: made } = model;
  const most = servedContext(model).toLocaleString('en');
  if (made === undefined) return '';
  return contextLength(model) === undefined
    ? `, made with texts of ${made.toLocaleString('en')} tokens, reads longer ones (a server: up to ${most})`
    : `, made for texts of up to ${most} tokens`;
}

/** What a model reads: its unit, lengths of it, and how they are written. */
function measureOf({ modality }: Model): {
  unit: Unit;
  lengths: readonly number[];
  shown: (n: number) => string;
} {
  const unit = modality?.unit ?? TOKENS;
  return unit.name === 'seconds'
    ? { unit, lengths: SECONDS, shown: formatDuration }
    : { unit, lengths: LENGTHS, shown: (n) => `${n.toLocaleString('en')} ${unit.name}` };
}

/** All layers as letters, in rows. */
function strip({ layers }: Model): string[] {
  const width = Math.max(...layers.map(({ letters }) => letters.length)) + 1;
  const perRow = Math.max(1, Math.floor(STRIP_WIDTH / width));
  return Array.from({ length: Math.ceil(layers.length / perRow) }, (_, row) => {
    const cells = layers.slice(row * perRow, (row + 1) * perRow);
    return `${
      row === 0
        ? '         '
        : String(row * perRow)
            .padStart(8)
            .padEnd(9)
    }${cells.map(({ letters }) => letters.padEnd(width)).join('')}`.trimEnd();
  });
}

function legend({ layers }: Model): string[] {
  const counts = new Map<string, number>();
  for (const letter of layers.flatMap(({ letters }) => lettersIn(letters))) {
    if (letterName(letter) !== letter) counts.set(letter, (counts.get(letter) ?? 0) + 1);
  }
  return [...counts].map(([letter, count]) => `         ${letter.padEnd(3)}${count} x ${letterName(letter)}`);
}

/** The source, and the layers of its encoder. */
function sourceLines({ source }: Model): string[] {
  if (!source) return [];
  const { modality, layers, positions, isAttended } = source;
  const encoder = layers.map(({ letters }) => letters).join('');
  const place = isAttended ? 'X attends over it' : 'it stands before the text, in one sequence with it';
  return [
    '',
    `source   ${modality.about}: ${positions.toLocaleString('en')} positions${encoder === '' ? '' : ` through ${encoder}`}; ${place}`,
  ];
}

function stateTable(model: Model): string {
  const { state } = model;
  const { unit, lengths, shown } = measureOf(model);
  const fixed = state.filter(({ grows }) => grows === undefined);
  const growing = state.filter(({ grows }) => grows !== undefined);
  const row = (name: string, specs: typeof state): string[] => [
    name,
    ...lengths.map((length) => formatBytes(stateBytes(specs, Math.ceil(length / unit.perPosition)))),
  ];
  return table([
    ['after', ...lengths.map(shown)],
    row('fixed (recurrent, convolution, windows)', fixed),
    row('growing (keys and values)', growing),
    row('together', state),
  ]);
}

/** Whether it reads streams and thus has a state; images are read whole. */
function isStream({ modality }: Model): boolean {
  return modality?.inputs.some(({ shape }) => shape.includes('sequence')) ?? true;
}

/** This machine's memory without the weights. */
function room(model: Model, loaded: number, available: number): string[] {
  const left = available - loaded;
  const here = `memory   ${formatBytes(available)} available here`;
  if (left <= 0) return [`${here}: the weights alone take ${formatBytes(loaded)}, which does not fit`];
  if (!isStream(model)) return [here];
  const { state } = model;
  const { unit, lengths, shown } = measureOf(model);
  const usual = lengths[1]!;
  const per = stateBytes(state, Math.ceil(usual / unit.perPosition));
  if (per === 0) return [`${here}: beside the weights a sequence takes none of it`];
  const sequences = Math.floor(left / per);
  const growth = stateBytes(state, 1) - stateBytes(state, 0);
  const longest = Math.floor((left - stateBytes(state, 0)) / growth);
  return [
    `${here}: beside the weights there is room for ${sequences.toLocaleString('en')} ${sequences === 1 ? 'sequence' : 'sequences'} of ${shown(usual)},`,
    growth === 0
      ? '         however long they get'
      : `         or for one of ${shown(longest * unit.perPosition)}`,
  ];
}
