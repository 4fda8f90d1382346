/** Formats help texts of options and arguments. */
import type { Argument, HelpConfiguration, Option } from 'commander';

/** For commander's `configureHelp`. */
export const HELP: HelpConfiguration = { optionDescription: described, argumentDescription: described };

/** The description, followed by the choices and the default if it does not mention them itself. */
function described({ description, argChoices, defaultValue }: Option | Argument): string {
  const more = [
    argChoices?.some((word) => !description.includes(word)) ? argChoices.join(', ') : '',
    isTold(defaultValue) && !description.includes('(default:') ? `default: ${String(defaultValue)}` : '',
  ].filter((text) => text !== '');
  return more.length === 0 ? description : `${description} (${more.join('; ')})`;
}

/** Whether to print a default: not for flags that are off, nor for objects, which would be printed as code. */
function isTold(value: unknown): boolean {
  return (
    value !== undefined && typeof value !== 'boolean' && (typeof value !== 'object' || Array.isArray(value))
  );
}
