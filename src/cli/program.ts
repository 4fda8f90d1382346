/** The commands of `heddle`. Only the module of the called command is loaded. */
import { createRequire } from 'node:module';
import { Command } from 'commander';
import { visible } from '../checkpoint/wording.js';
import { heddleCall, heddleCommand } from '../command-line.js';
import { HeddleError } from '../errors.js';
import { reasonOf, systemRefusal } from '../platform/unreadable.js';
import { HELP } from './help.js';

/** Adds arguments, options and the action. */
type Configure = (command: Command) => void;

interface Entry {
  /** The heading of the group of commands that begins with this one. */
  readonly heading?: string;
  readonly name: string;
  readonly description: string;
  /** The arguments of the example in its help. */
  readonly example?: string;
  readonly load: () => Promise<{ configure: Configure }>;
}

const COMMANDS: readonly Entry[] = [
  {
    heading: 'Run a model:',
    name: 'start',
    description: 'serve the shipped model and open the studio; without a terminal, do what demo does and end',
    load: () => import('./start.js'),
  },
  {
    name: 'demo',
    description: 'continue a text with the shipped model, and measure what that costs',
    load: () => import('./demo.js'),
  },
  {
    name: 'chat',
    description:
      'talk with a model, turn by turn; its state is kept between turns, and its generation_config.json gives the sampling defaults',
    example: 'sotu-hybrid',
    load: () => import('./chat.js'),
  },
  {
    name: 'generate',
    description: 'continue a text with a model; its generation_config.json gives the sampling defaults',
    example: 'sotu-hybrid --prompt "My fellow citizens" --max-tokens 50',
    load: () => import('./generate.js'),
  },
  {
    name: 'read',
    description: 'read texts once and save the state, for generate and chat to continue from with --state',
    example: 'sotu-hybrid book.txt --save book.state',
    load: () => import('./read.js'),
  },
  {
    name: 'serve',
    description: 'serve models over HTTP with the OpenAI API, and save their states',
    example: 'sotu-hybrid other=models/owner/name',
    load: () => import('./serve.js'),
  },
  {
    name: 'key',
    description: 'make an API key for serve; the file gets its hash, and the key is shown only now',
    example: 'keys.json ada',
    load: () => import('./key.js'),
  },
  {
    heading: 'Ask documents:',
    name: 'archive',
    description:
      'read folders of documents (PDF, Word, HTML, Markdown, text) into an archive, search them, and ask a model about them, with pages',
    example: 'add ~/contracts ~/manuals',
    load: () => import('./archive.js'),
  },
  {
    heading: 'Get and change models:',
    name: 'pull',
    description:
      'download a model from the Hugging Face hub, or from the hub that HF_ENDPOINT names; HF_TOKEN opens gated and private ones',
    example: 'ibm-granite/granite-4.0-h-350m',
    load: () => import('./pull.js'),
  },
  {
    name: 'info',
    description: "show a model's layers, size and memory, without loading its weights",
    example: 'sotu-hybrid',
    load: () => import('./info.js'),
  },
  {
    name: 'quantize',
    description:
      'write a model with its matrices in blocks of 4 or 8 bits: smaller, and faster to write with',
    example: 'runs/mine --bits 4',
    load: () => import('./quantize.js'),
  },
  {
    name: 'convert',
    description:
      'make a hybrid of a transformer: layers of other kinds take over what they can of its attention',
    example: 'my-transformer my-hybrid --pattern "(G-*-)x5"',
    load: () => import('./convert.js'),
  },
  {
    name: 'merge',
    description: 'merge an adapter (LoRA) into the weights of its model, in a folder of its own',
    example: 'models/owner/name runs/adapter merged',
    load: () => import('./merge.js'),
  },
  {
    name: 'export',
    description:
      'write a model for Heddle, for transformers, or for ONNX Runtime alone, in a folder of its own',
    example: 'runs/mine exported',
    load: () => import('./export.js'),
  },
  {
    heading: 'Train:',
    name: 'train',
    description:
      'train a model on texts, pairs of texts, tables, images or sounds: a new one, or with --from an existing one',
    example: 'my-text.txt --out runs/mine --size nano --steps 500',
    load: () => import('./train.js'),
  },
  {
    name: 'evaluate',
    description:
      'measure the perplexity of a model on the documents of a corpus that were held out of training',
    example: 'runs/mine my-text.txt',
    load: () => import('./evaluate.js'),
  },
  {
    name: 'compare',
    description:
      'compare training runs: validation perplexity and memory (default: the shipped model and its siblings)',
    example: 'runs/mine runs/other',
    load: () => import('./compare.js'),
  },
  {
    name: 'forecast',
    description: 'forecast a table, with a model that was trained on one (train table.csv --target column)',
    example: 'runs/load measurements.csv --steps 48',
    load: () => import('./forecast.js'),
  },
  {
    name: 'classify',
    description:
      'say which class images or sounds are of, with a model that was trained on a folder of them by class',
    example: 'runs/flowers rose.png',
    load: () => import('./classify.js'),
  },
  {
    heading: 'Look inside and measure:',
    name: 'explain',
    description: 'look inside a model while it reads a text and continues it',
    example: 'sotu-hybrid --text "My fellow citizens" --out page.html',
    load: () => import('./explain.js'),
  },
  {
    name: 'task',
    description: 'list tasks that tell designs apart (recall, reasoning), train a model on one and test it',
    example: 'run facts-8 --out runs/facts',
    load: () => import('./task.js'),
  },
  {
    name: 'evidence',
    description:
      'measure what designs cost and what they can do, beside their siblings, and write a page with every number',
    example: '--quick',
    load: () => import('./evidence.js'),
  },
  {
    name: 'bench',
    description:
      'show where the time goes while a model writes a token: `bench ops <model>` prints its steps with their times',
    example: 'ops sotu-hybrid',
    load: () => import('./bench.js'),
  },
  {
    heading: 'This machine:',
    name: 'devices',
    description: 'say what this machine can compute on, and why not on the rest',
    load: () => import('./devices.js'),
  },
  {
    name: 'setup',
    description: 'get what a device needs: `setup cuda` downloads XLA and the CUDA libraries (about 2 GB)',
    example: 'cuda',
    load: () => import('./setup.js'),
  },
];

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };

const program = new Command(heddleCommand())
  .description('hybrid state-space + attention models')
  .version(version)
  .configureHelp(HELP)
  .showHelpAfterError(`next:  ${heddleCall('help')}`)
  .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'heddle: ')) });

// A reader of standard output may close early, as `head` does, which ends the process. If a terminal is closed (`EIO`), SIGHUP decides.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EIO') return;
  if (error.code !== 'EPIPE')
    process.stderr.write(`heddle: Could not write to standard output: ${reasonOf(error)}.\n`);
  process.exit(error.code === 'EPIPE' ? 0 : 1);
});
// Without standard error the work continues.
process.stderr.on('error', () => {});

/**
 * `help archive search` as `archive help search`, since commander's help does not handle nested commands. It answers an unknown name with the
 * whole help: such a name is called instead, which refuses it.
 */
function asked(args: readonly string[]): readonly string[] {
  const [first, second, inner] = args;
  const name = first === 'help' ? second : second === 'help' ? first : undefined;
  const command = program.commands.find((each) => each.name() === name);
  if (!command) return first === 'help' ? args.slice(1) : args;
  if (inner === undefined || command.commands.length === 0) return args;
  const isKnown = command.commands.some((each) => each.name() === inner);
  return isKnown ? [name!, 'help', inner] : [name!, inner];
}

try {
  const args = process.argv.slice(2);
  const called = args[0] === 'help' ? args[1] : args[0];
  for (const { heading, name, description, example, load } of COMMANDS) {
    if (heading) program.commandsGroup(heading);
    const command = program.command(name).description(description);
    if (name !== called) continue;
    command.showHelpAfterError(`next:  ${heddleCall('help', name)}`);
    (await load()).configure(command);
    for (const each of command.commands)
      each.showHelpAfterError(`next:  ${heddleCall(name, 'help', each.name())}`);
    if (example) command.addHelpText('after', `\nExample:\n  ${heddleCall(name)} ${example}`);
  }
  // commander treats a call without a command, and `help help`, as errors.
  if (called === undefined || (args[0] === 'help' && called === 'help')) program.outputHelp();
  else await program.parseAsync(asked(args), { from: 'user' });
} catch (error) {
  const refusal = error instanceof HeddleError ? error.message : systemRefusal(error);
  if (refusal === undefined) throw error;
  process.stderr.write(`heddle: ${visible(refusal)}\n`);
  process.exitCode = 1;
}
