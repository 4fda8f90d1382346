/** Grammars of whole answers: a thought, if the model thinks, followed by a formatted value, tool calls, or either. */
import {
  type AnswerForm,
  type Argument,
  argumentsOf,
  type CallableTool,
  type CallForm,
  type ElementForm,
  ID_PLACE,
  isStringAlone,
  type ThoughtForm,
} from '../../text/index.js';
import { bytesOf, choice, literal, type Node, reference, repeat, sequence } from './node.js';
import { schemaNode } from './schema/compiler.js';
import { Work } from './work.js';

/** White space between a thought and what follows it. */
const GAP = repeat(choice(literal('\n'), literal(' ')), 0, 4);

/** One call of one of these tools, in the template's format. Throws `ConfigError` for a schema that cannot be enforced. */
export function callNode(tools: readonly CallableTool[], form: CallForm): Node {
  // The limit of work is for all tools of a request together.
  const work = new Work();
  return choice(
    ...tools.map((tool) =>
      sequence(
        spelled(form.first),
        literal(JSON.stringify(tool.name).slice(1, -1)),
        spelled(form.between),
        argumentsNode(tool, form, work),
        spelled(form.last),
      ),
    ),
  );
}

/** An answer after the thought that the prompt opened. */
export function afterThought(answer: Node, { close }: ThoughtForm): Node {
  return sequence(until(close), GAP, answer);
}

/** An answer with a thought before it, or without one. */
export function maybeAfterThought(answer: Node, thought: ThoughtForm): Node {
  return choice(answer, sequence(literal(thought.open), afterThought(answer, thought)));
}

/** An answer where the model may think first, as the form of its answers and the prompt have it. */
export function withThought(
  answer: Node,
  { thoughts, thinks }: AnswerForm,
  { generationPrompt, thinking }: { generationPrompt?: string; thinking?: ThoughtForm },
): Node {
  if (thinking) return afterThought(answer, thinking);
  // If the prompt already contains a closed thought, the answer has none.
  const [thought] = thoughts;
  const mayThink = thinks && generationPrompt !== undefined && !generationPrompt.includes(thought!.close);
  return mayThink ? maybeAfterThought(answer, thought!) : answer;
}

const ID = repeat(bytesOf([0x30, 0x39], [0x41, 0x5a], [0x61, 0x7a]), ID_PLACE.length, ID_PLACE.length);

/** Text of the template around calls, with an id where the template has one. */
function spelled(text: string): Node {
  return sequence(
    ...text.split(ID_PLACE).flatMap((part, i) => (i === 0 ? [literal(part)] : [ID, literal(part)])),
  );
}

function argumentsNode(tool: CallableTool, form: CallForm, work: Work): Node {
  const { elements } = form;
  if (form.style === 'elements' && elements) {
    const parts = argumentsOf(tool).map((argument) => {
      const node = elementNode(argument, elements, work);
      return argument.required ? node : repeat(node, 0, 1);
    });
    return sequence(literal(''), ...parts);
  }
  if (form.style === 'python') {
    return listed(
      argumentsOf(tool).map(({ name, schema, required }) => ({
        node: sequence(literal(`${name}=`), schemaNode(schema, work)),
        required,
      })),
    );
  }
  return schemaNode(tool.parameters ?? { type: 'object', properties: {} }, work);
}

/** A string argument in an element is not quoted, so only an enumeration of its schema is enforced; other types are JSON. */
function elementNode(
  { name, schema, types }: Argument,
  { key, keyEnd, valueEnd }: ElementForm,
  work: Work,
): Node {
  const begin = literal(`${key}${name}${keyEnd}`);
  const { enum: listing, const: only } = schema as { enum?: unknown; const?: unknown };
  const values = Array.isArray(listing) ? listing : only === undefined ? [] : [only];
  if (values.length > 0 && values.every((value) => typeof value === 'string')) {
    return sequence(begin, choice(...values.map((value) => literal(value))), literal(valueEnd));
  }
  if (isStringAlone(types) || types === undefined) return sequence(begin, until(valueEnd));
  return sequence(begin, schemaNode(schema, work), literal(valueEnd));
}

/** Parts in order, separated by commas; those that are not required may be left out. */
function listed(parts: readonly { node: Node; required: boolean }[]): Node {
  let first = literal('');
  let more = literal('');
  for (const { node, required } of [...parts].reverse()) {
    const begun = sequence(node, more);
    const gone = sequence(literal(', '), node, more);
    first = required ? begun : choice(begun, first);
    more = required ? gone : choice(gone, more);
  }
  return first;
}

/** Any text up to and including the first occurrence of a mark. The states count the matched bytes of the mark (Knuth, Morris and Pratt, 1977). */
function until(mark: string): Node {
  const bytes = Array.from(new TextEncoder().encode(mark));
  const met = (count: number, byte: number): number => {
    const seen = [...bytes.slice(0, count), byte];
    for (let length = seen.length; length > 0; length--) {
      if (seen.slice(seen.length - length).every((each, i) => each === bytes[i])) return length;
    }
    return 0;
  };
  const states: Node[] = bytes.map((_, count) =>
    reference(() => {
      const targets = new Map<number, [number, number][]>();
      for (let byte = 0; byte < 256; byte++) {
        // Of the control characters only tabs and line ends are allowed.
        if (byte < 0x20 && ![0x09, 0x0a, 0x0d].includes(byte) && byte !== bytes[count]) continue;
        const target = met(count, byte);
        targets.set(target, [...(targets.get(target) ?? []), [byte, byte]]);
      }
      return choice(
        ...[...targets].map(([target, ranges]) =>
          target === bytes.length ? bytesOf(...ranges) : sequence(bytesOf(...ranges), states[target]!),
        ),
      );
    }),
  );
  return states[0]!;
}
