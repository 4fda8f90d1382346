/** Whatever the documents tell users to type exists: commands with their arguments, options and values, npm scripts, files, variables. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command, CommanderError } from 'commander';
import { beforeAll, describe, expect, test } from 'vitest';
import { benchProgram } from '../src/bench/program.js';
import { DOCUMENTS, inlineCode, readDocument, root, shellLines, shellWords } from './testing/documents.js';

/** Says what has been, also of what is there no more. */
const HISTORY = ['CHANGELOG.md', 'docs/evidence/log.md'];
const PRESENT = DOCUMENTS.filter((path) => !HISTORY.includes(path));

/** Options of npm, of XLA and of Node.js that documents name by themselves. */
const FOREIGN = /^--(ignore-scripts|omit|no-save|xla_\w+|onnxruntime-node-install)$/;

const NAMES = [
  ...readFileSync(join(root, 'src/cli/program.ts'), 'utf8').matchAll(/^ {4}name: '(\w+)',$/gm),
].map(([, name]) => name!);

/** The commands, as they are built; what they would do is left out. */
const commands = new Map<string, Command>();
const bench = benchProgram();

beforeAll(async () => {
  for (const name of NAMES) {
    const command = new Command(name);
    ((await import(`../src/cli/${name}.ts`)) as { configure: (command: Command) => void }).configure(command);
    commands.set(name, command);
  }
  for (const command of [bench, ...commands.values()]) inert(command);
});

function inert(command: Command): void {
  command.exitOverride().configureOutput({ writeOut: () => {}, writeErr: () => {} });
  if (command.commands.length === 0 || command === bench) command.action(() => {});
  for (const each of command.commands) inert(each);
}

/** Those that do something: a command, or each command of it. */
function leavesOf(command: Command): Command[] {
  return command.commands.length === 0 ? [command] : command.commands.flatMap(leavesOf);
}

/**
 * What is wrong with a call, in commander's words. In a sentence a command is named without the arguments that do not matter there.
 */
function flawOf(command: Command, words: readonly string[], inSentence = false): string | undefined {
  const required = leavesOf(command).flatMap(({ options }) => options.filter(({ mandatory }) => mandatory));
  if (inSentence) for (const option of required) option.mandatory = false;
  const lenient = ['commander.missingArgument', 'commander.optionMissingArgument', 'commander.help'];
  try {
    command.parse([...words], { from: 'user' });
    return undefined;
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.code === 'commander.helpDisplayed') return undefined;
    return inSentence && lenient.includes(error.code) ? undefined : error.message;
  } finally {
    for (const option of required) option.mandatory = true;
  }
}

/** Without the option at the end whose values are left open: `--rate ...`. */
function known(words: readonly string[]): readonly string[] {
  return words.at(-1) === '...' && words.at(-2)?.startsWith('--') ? words.slice(0, -2) : words;
}

interface Call {
  readonly path: string;
  readonly line: string;
  readonly words: readonly string[];
  readonly inSentence: boolean;
}

/** Calls in the documents that begin like this. */
function callsOf(start: RegExp, paths: readonly string[] = PRESENT): Call[] {
  return paths.flatMap((path) => {
    const text = readDocument(path);
    return [
      ...shellLines(text).map((line) => ({ line, inSentence: false })),
      ...inlineCode(text).map((line) => ({ line, inSentence: true })),
    ].flatMap(({ line, inSentence }) => {
      const rest = start.exec(line.replace(/^([A-Z]\w*=\S+ )+/, ''))?.[1];
      return rest === undefined ? [] : [{ path, line, inSentence, words: known(shellWords(rest)) }];
    });
  });
}

/** More than one space: a row of what was printed. */
const HEDDLE = /^(?:npx heddle|npm run -s heddle --|heddle)(?: (\S.*))?$/;
const BENCH = /^npm run bench(?: -- (.*))?$/;

describe('heddle', () => {
  const calls = callsOf(HEDDLE);

  test('every command is documented, and every command of a command', () => {
    expect(calls.length).toBeGreaterThan(80);
    const documented = calls.map(({ words }) => words.join(' '));
    for (const command of commands.values()) {
      for (const leaf of leavesOf(command)) {
        const name = leaf === command ? command.name() : `${command.name()} ${leaf.name()}`;
        expect(documented.filter((words) => `${words} `.startsWith(`${name} `)).length, name).toBeGreaterThan(
          0,
        );
      }
    }
  });

  test('all calls have existing commands, arguments, options and values', () => {
    const flaws = calls.flatMap(({ path, line, words, inSentence }) => {
      const [name = 'help', ...rest] = words;
      if (name === 'help' || name.startsWith('-')) return [];
      const command = commands.get(name);
      const flaw = command ? flawOf(command, rest, inSentence) : 'there is no such command';
      return flaw === undefined ? [] : [`${path}: ${line}: ${flaw}`];
    });
    expect(flaws).toEqual([]);
  });
});

test('all calls of the benchmark have existing commands, options and values', () => {
  const calls = callsOf(BENCH);
  expect(calls.length).toBeGreaterThan(20);
  const flaws = calls.flatMap(({ path, line, words }) => {
    const flaw = flawOf(bench, words);
    return flaw === undefined ? [] : [`${path}: ${line}: ${flaw}`];
  });
  expect(flaws).toEqual([]);
});

test('programs that are called by their path exist, with the options of the call', () => {
  const calls = callsOf(/^node (\S+\/\S+\.mjs.*)$/);
  expect(calls.length).toBeGreaterThan(5);
  for (const { path, line, words } of calls) {
    const [script, ...options] = words;
    expect(existsSync(join(root, script!)), `${path}: ${line}`).toBe(true);
    const source = readFileSync(join(root, script!), 'utf8');
    for (const option of options.filter((word) => word.startsWith('--')))
      expect(hasOption(source, option), `${path}: ${line}: ${option}`).toBe(true);
  }
});

/** Whether a script has it for `parseArgs`, or looks for it itself. */
function hasOption(source: string, option: string): boolean {
  return new RegExp(`\\b${option.slice(2)}: \\{ type:|'${option}'`).test(source);
}

test('an option that is mentioned alone belongs to some command, with that value', () => {
  const scripts = readdirSync(join(root, 'bench/archive'))
    .map((name) => readFileSync(join(root, 'bench/archive', name), 'utf8'))
    .join('\n');
  const all = [bench, ...bench.commands, ...[...commands.values()].flatMap(leavesOf)];
  const flaws = PRESENT.flatMap((path) =>
    inlineCode(readDocument(path))
      .filter((code) => code.startsWith('--'))
      .filter((code) => !FOREIGN.test(/^--[\w-]+/.exec(code)?.[0] ?? code))
      .filter((code) => {
        const words = known(shellWords(code.replace(/ <.*>$/, '')));
        const isTaken = all.some((command) => flawOf(command, words, true) === undefined);
        return !isTaken && !words.every((word) => !word.startsWith('--') || hasOption(scripts, word));
      })
      .map((code) => `${path}: ${code}`),
  );
  expect(flaws).toEqual([]);
});

test('all npm scripts that are mentioned exist', () => {
  const { scripts } = JSON.parse(readDocument('package.json')) as { scripts: Record<string, string> };
  const calls = callsOf(/^npm ((?:start|test|run)\b.*)$/);
  expect(calls.length).toBeGreaterThan(20);
  for (const { path, line } of calls) {
    const name = /^npm (?:run (?:-s )?)?([\w:]+)/.exec(line)![1]!;
    expect(Object.keys(scripts), `${path}: ${line}`).toContain(name);
  }
});

test('all files of the repository that are mentioned exist', () => {
  const missing = PRESENT.flatMap((path) =>
    inlineCode(readDocument(path))
      .filter((code) =>
        /^(src|test|bench|docs|examples|scripts|recipes|assets|studio|demo)\/[\w./-]*$/.test(code),
      )
      .filter((code) => !existsSync(join(root, code)))
      .map((code) => `${path}: ${code}`),
  );
  expect(missing).toEqual([]);
});

test('all environment variables that are mentioned are read', () => {
  const sources = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts'))
    .map((name) => readFileSync(join(root, 'src', name), 'utf8'))
    .join('\n');
  for (const path of PRESENT)
    for (const [name] of readDocument(path).matchAll(/\bHEDDLE_\w+/g)) expect(sources, path).toContain(name);
});
