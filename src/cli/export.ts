/** `heddle export`: exports a model, without training state. */
import { readdir, realpath, stat, writeFile } from 'node:fs/promises';
import { isAbsolute, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { readText } from '#platform';
import { writeFolderAtomic } from '../checkpoint/index.js';
import { heddleCall, quoted } from '../command-line.js';
import { StorageError } from '../errors.js';
import { isGguf } from '../gguf.js';
import { DTYPES } from '../graph/index.js';
import {
  copyCompanions,
  EXPORT_FORMATS,
  type ExportFormat,
  type ExportPlan,
  formatConfig,
  modelFolder,
  parseConfigText,
  planExport,
  WEIGHT_DTYPES,
} from '../models/index.js';
import { Tokenizer } from '../text/index.js';
import { formatBytes } from './format.js';
import { leavingNothing } from './interrupt.js';
import { MODEL_HELP } from './loading-options.js';
import { choice } from './options.js';

/** Arguments, options and action of `heddle export`. */
export function configure(command: Command): void {
  command
    .argument('<model>', MODEL_HELP)
    .argument('<out>', 'where to')
    .option(
      '--to <format>',
      `${EXPORT_FORMATS.join(', ')} (default: heddle for a model trained from a pattern, hf for one of a family)`,
      choice(EXPORT_FORMATS),
    )
    .option(
      '--dtype <name>',
      `how weights are stored: ${WEIGHT_DTYPES.join(', ')} (default: as they are)`,
      choice(WEIGHT_DTYPES),
    )
    .addHelpText(
      'after',
      `
hf takes every model of a family as it is; of our own it takes patterns of M- and *-, or of M alone, with sizes that a known
family can have. onnx takes every model: examples/onnx-generate.mjs shows in 30 lines how to run it, and model.onnx.json
lists what goes in and comes out.
llama.cpp's converter reads hf too; it asks to be told of a vocabulary that it has not seen, such as one trained here.`,
    )
    .action(run);
}

const EXAMPLE = fileURLToPath(new URL('../../examples/onnx-generate.mjs', import.meta.url));

async function run(
  name: string,
  out: string,
  { to, dtype }: { to?: ExportFormat; dtype?: (typeof WEIGHT_DTYPES)[number] },
): Promise<void> {
  const folder = modelFolder(name);
  await requireApart(folder, out);
  const plan = await planExport(folder, { to, dtype: dtype && DTYPES[dtype].safetensors });
  const hasTokenizer = (await isGguf(folder)) || (await readdir(folder)).includes('tokenizer.json');
  const tokenizer = hasTokenizer ? await Tokenizer.load(folder) : undefined;
  await leavingNothing(() =>
    writeFolderAtomic(out, async (temporary) => {
      await plan.write(temporary);
      await copyCompanions(folder, temporary);
      await writeGenerationConfig(temporary, plan, tokenizer);
    }),
  );
  const names = (await readdir(out)).filter((name) => !name.startsWith('.')).sort();
  const sizes = await Promise.all(names.map(async (name) => (await stat(join(out, name))).size));
  const bytes = formatBytes(sizes.reduce((a, b) => a + b, 0));
  const what = plan.format === 'heddle' ? 'heddle' : `${plan.json.model_type} as ${plan.format}`;
  process.stderr.write(`${out}: ${what}, ${bytes}: ${names.join(', ')}\n`);
  process.stderr.write(`${usage(plan, out)}\n`);
  for (const note of plan.notes) process.stderr.write(`note: ${note}\n`);
}

function usage({ format, model }: ExportPlan, out: string): string {
  switch (format) {
    case 'heddle':
      return `next:  ${heddleCall(model.modality ? 'info' : 'chat', out)}`;
    case 'hf':
      return `use it: AutoModelForCausalLM.from_pretrained(${JSON.stringify(out)}) in transformers, or vllm serve ${quoted(out)}`;
    case 'onnx':
      return `use it: node ${quoted(EXAMPLE)} ${quoted(out)} <how many tokens> <id> <id> ... (30 lines to start from; they need the package onnxruntime-node)`;
  }
}

/** Throws if the source is inside the output folder, which is replaced as a whole. */
async function requireApart(folder: string, out: string): Promise<void> {
  const [from, to] = await Promise.all([folder, out].map((path) => realpath(path).catch(() => undefined)));
  if (from === undefined || to === undefined) return;
  const inside = relative(to, from);
  if (inside === '..' || inside.startsWith(`..${sep}`) || isAbsolute(inside)) return;
  throw new StorageError(`writing ${out} would replace the model in ${folder}: name another folder`);
}

const GENERATION_CONFIG = 'generation_config.json';

/** Writes generation_config.json into the exported folder if it is missing. */
async function writeGenerationConfig(
  folder: string,
  plan: ExportPlan,
  tokenizer: Tokenizer | undefined,
): Promise<void> {
  const isConverted = plan.json !== plan.model.json;
  const isThere = (await readdir(folder)).includes(GENERATION_CONFIG);
  if (isThere && !isConverted) return;
  const path = join(folder, GENERATION_CONFIG);
  const known = isThere ? parseConfigText(await readText(path), path) : endKeys(plan, tokenizer);
  const json = { ...known, ...(isConverted && plan.json.use_cache === false && { use_cache: false }) };
  if (Object.keys(json).length > 0) await writeFile(path, formatConfig(json));
}

/** The special token ids for generation_config.json. */
function endKeys({ model, json }: ExportPlan, tokenizer: Tokenizer | undefined): Record<string, unknown> {
  const ends = model.eosTokenIds.length > 0 ? model.eosTokenIds : [tokenizer?.endOfText ?? []].flat();
  const keys = {
    bos_token_id: json.bos_token_id,
    eos_token_id: ends.length > 1 ? ends : ends[0],
    pad_token_id: json.pad_token_id ?? ends[0],
  };
  return Object.fromEntries(
    Object.entries(keys).filter(([, value]) => value !== undefined && value !== null),
  );
}
