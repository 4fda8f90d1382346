/** All that the `heddle` command can do. Of its commands only the one that was called is loaded. */
import { createRequire } from 'node:module';
import { Command } from 'commander';
import { visible } from '../checkpoint/wording.js';
import { heddleCommand } from '../command-line.js';
import { HeddleError } from '../errors.js';

/** Adds arguments, options and what the command does. */
type Configure = (command: Command) => void;

interface Entry {
  readonly name: string;
  readonly description: string;
  readonly load: () => Promise<{ configure: Configure }>;
}

const COMMANDS: readonly Entry[] = [
  {
    name: 'start',
    description: 'serve the shipped model and open the studio; without a terminal, do what demo does and end',
    load: () => import('./start.js'),
  },
  {
    name: 'demo',
    description: 'the shipped model continues a text and shows what that costs',
    load: () => import('./demo.js'),
  },
  {
    name: 'chat',
    description:
      'talk with a model, turn by turn; its state is kept between turns, and its generation_config.json gives the sampling defaults',
    load: () => import('./chat.js'),
  },
  {
    name: 'generate',
    description: 'continue a text with a model; its generation_config.json gives the sampling defaults',
    load: () => import('./generate.js'),
  },
  {
    name: 'read',
    description: 'read texts once and save the state, for generate and chat to continue from with --state',
    load: () => import('./read.js'),
  },
  {
    name: 'serve',
    description: 'serve models over HTTP with the OpenAI API, and save their states',
    load: () => import('./serve.js'),
  },
  {
    name: 'key',
    description: 'make an API key for serve; the file gets its hash, and the key is shown only now',
    load: () => import('./key.js'),
  },
  {
    name: 'archive',
    description:
      'read folders of documents (PDF, Word, HTML, Markdown, text) into an archive, search them, and ask a model about them, with pages',
    load: () => import('./archive.js'),
  },
  {
    name: 'pull',
    description:
      'download a model from the Hugging Face hub, or from the hub that HF_ENDPOINT names; HF_TOKEN opens gated and private ones',
    load: () => import('./pull.js'),
  },
  {
    name: 'devices',
    description: 'what this machine can compute on, and why not on the rest',
    load: () => import('./devices.js'),
  },
  {
    name: 'setup',
    description: 'get what a device needs: setup cuda downloads XLA and the CUDA libraries (about 2 GB)',
    load: () => import('./setup.js'),
  },
  {
    name: 'info',
    description: "a model's layers, size and memory; its weights are not loaded",
    load: () => import('./info.js'),
  },
  {
    name: 'quantize',
    description:
      'write a model with its matrices in blocks of 4 or 8 bits: smaller, and faster to write with',
    load: () => import('./quantize.js'),
  },
  {
    name: 'train',
    description:
      'train a new model, or one that exists further, on a text file, a folder of .txt and .md files, or a shipped corpus (sotu, moby-dick); or one that forecasts a table, or tells images or sounds by class apart',
    load: () => import('./train.js'),
  },
  {
    name: 'forecast',
    description: 'how a table goes on, by a model that was trained on one (train table.csv --target column)',
    load: () => import('./forecast.js'),
  },
  {
    name: 'task',
    description:
      'tasks that tell designs apart (recall, reasoning): list them, train a model on one and test it',
    load: () => import('./task.js'),
  },
  {
    name: 'evidence',
    description:
      'measure what designs cost and what they can do, beside their siblings, and write a page with every number',
    load: () => import('./evidence.js'),
  },
  {
    name: 'classify',
    description:
      'which class images or sounds are of, by a model that was trained on a folder of them by class',
    load: () => import('./classify.js'),
  },
  {
    name: 'evaluate',
    description: 'perplexity of a model on the documents of a corpus that training holds out',
    load: () => import('./evaluate.js'),
  },
  {
    name: 'compare',
    description:
      'validation perplexity and memory of training runs side by side (default: the shipped model and its siblings)',
    load: () => import('./compare.js'),
  },
  {
    name: 'convert',
    description: 'make a hybrid of a transformer: layers of other kinds take over what fits of its attention',
    load: () => import('./convert.js'),
  },
  {
    name: 'merge',
    description: 'write a model with an adapter (LoRA) merged into its weights into a folder of its own',
    load: () => import('./merge.js'),
  },
  {
    name: 'export',
    description:
      "write a model and its tokenizer into a folder of its own, for Heddle, for transformers and what reads its checkpoints, or for ONNX Runtime alone; without the optimizer's state",
    load: () => import('./export.js'),
  },
  {
    name: 'bench',
    description:
      'where the time goes when a model writes a token: `bench ops <model>` prints its schedule with times',
    load: () => import('./bench.js'),
  },
  {
    name: 'explain',
    description: 'look inside a model while it reads a text and continues it',
    load: () => import('./explain.js'),
  },
];

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };

const program = new Command(heddleCommand())
  .description('hybrid state-space + attention models')
  .version(version)
  .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'heddle: ')) });

// Whoever reads our output may stop early, as `head` does. Work whose messages nobody reads continues.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(0);
});
process.stderr.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});

try {
  const args = process.argv.slice(2);
  const called = args[0] === 'help' ? args[1] : args[0];
  for (const { name, description, load } of COMMANDS) {
    const command = program.command(name).description(description);
    if (name === called) (await load()).configure(command);
  }
  // commander takes a call without a command, and help about help, for mistakes.
  if (called === undefined || (args[0] === 'help' && called === 'help')) program.outputHelp();
  else await program.parseAsync();
} catch (error) {
  if (!(error instanceof HeddleError)) throw error;
  process.stderr.write(`heddle: ${visible(error.message)}\n`);
  process.exitCode = 1;
}
