/** The kinds of data that models read. */
import { heddleCommand } from '#platform';
import { ConfigError } from '../../errors.js';
import type { ModalityConfig } from './index.js';

/** A kind of data: text, or the `kind` in the `input` of a config. */
export type ModelKind = 'text' | ModalityConfig['kind'];

const COMMANDS: Readonly<Record<string, string>> = {
  text: 'generate',
  series: 'forecast',
  images: 'classify',
  sounds: 'classify',
} satisfies Record<ModelKind, string>;

/** The error for a model of an unexpected kind. It names the command and the library call for the kind found. */
export function wrongKind(found: string, expected: readonly ModelKind[]): ConfigError {
  return new ConfigError(
    `this is a model of ${found}, not of ${expected.join(' or ')}: run it with '${heddleCommand()} ${COMMANDS[found]}', or in the library with loadModel(folder, { kind: '${found}' })`,
  );
}
