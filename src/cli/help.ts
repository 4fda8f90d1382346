/** How the help of a command tells of its options. */
import type { Argument, HelpConfiguration, Option } from 'commander';

/** For commander's `configureHelp`. */
export const HELP: HelpConfiguration = { optionDescription: described, argumentDescription: described };

/** The description, with the words to choose from and the default where it does not have them itself. */
function described({ description, argChoices, defaultValue }: Option | Argument): string {
  const more = [
    argChoices?.some((word) => !description.includes(word)) ? argChoices.join(', ') : '',
    isTold(defaultValue) && !description.includes('(default:') ? `default: ${String(defaultValue)}` : '',
  ].filter((text) => text !== '');
  return more.length === 0 ? description : `${description} (${more.join('; ')})`;
}

/** Flags are off by default, and an object would be told as code. */
function isTold(value: unknown): boolean {
  return (
    value !== undefined && typeof value !== 'boolean' && (typeof value !== 'object' || Array.isArray(value))
  );
}
