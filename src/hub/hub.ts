/** A hub of models: where it is, who is let in, and what it means by its refusals. */
import { quote } from '../checkpoint/index.js';
import { HubError } from '../errors.js';
import type { Source } from './connection.js';

/** A hub: the address of Hugging Face's, or of one that speaks its protocol. */
export interface Hub {
  /** Without a slash at its end. */
  readonly endpoint: string;
  readonly token?: string;
}

/** The hub of `HF_ENDPOINT` (or Hugging Face's), with the token of `HF_TOKEN` or `HUGGING_FACE_HUB_TOKEN`, if any. Throws `HubError`. */
export function hubFromEnvironment(environment: NodeJS.ProcessEnv = process.env): Hub {
  const given = environment.HF_ENDPOINT?.trim() || 'https://huggingface.co';
  const url = URL.canParse(given) ? new URL(given) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '') {
    throw new HubError(
      'HF_ENDPOINT is not the address of a hub. Expected one such as https://huggingface.co, without a name or a password in it.',
    );
  }
  const endpoint = `${url.origin}${url.pathname}`.replace(/\/+$/, '');
  const token = (environment.HF_TOKEN?.trim() || environment.HUGGING_FACE_HUB_TOKEN?.trim()) ?? '';
  // What is sent wrong would be shown in an error, so it is not sent.
  if (!/^[\x21-\x7e]*$/.test(token)) {
    throw new HubError('HF_TOKEN holds characters that no token has. Copy it again from the hub.');
  }
  return token === '' ? { endpoint } : { endpoint, token };
}

/** The repository has other files than it listed. */
export class Changed extends Error {}

/** A hub as a source of one revision of one repository. */
export function sourceOf(hub: Hub, repo: string, revision: string): Source {
  return {
    endpoint: hub.endpoint,
    ...(hub.token === undefined ? {} : { authorization: `Bearer ${hub.token}` }),
    setting: 'HF_ENDPOINT',
    otherwise:
      'A model can also be copied by hand: put its config, tokenizer and safetensors files into a folder.',
    refusal: (response) => refusal(hub, repo, revision, response),
  };
}

/** What the hub means by an answer that is no success. */
function refusal(hub: Hub, repo: string, revision: string, { status, headers }: Response): Error | undefined {
  const { host } = new URL(hub.endpoint);
  const code = headers.get('x-error-code');
  if (code === 'EntryNotFound') return new Changed();
  if (code === 'RevisionNotFound') {
    return new HubError(
      `${repo} has no revision ${quote(revision)}. Name a branch, a tag or a commit of it.`,
    );
  }
  const terms = `accept its terms at ${hub.endpoint}/${repo}`;
  if (code === 'GatedRepo') {
    return new HubError(
      hub.token === undefined
        ? `${repo} is gated: ${terms}, and set HF_TOKEN to a token of your account.`
        : `${repo} is gated, and the account of HF_TOKEN has no access to it: ${terms} (some owners then decide), and check that the token may read gated models.`,
    );
  }
  if (status === 404 || code === 'RepoNotFound') {
    return new HubError(
      `${host} has no model ${repo} with a revision ${quote(revision)} (${status}). Check the spelling, also of upper and lower case; if it is private or gated, ${terms}, and set HF_TOKEN.`,
    );
  }
  if (status === 401 || status === 403) {
    return new HubError(
      hub.token === undefined
        ? `${host} does not give ${repo} to everyone (${status}). Check the spelling; if it is private or gated, ${terms}, and set HF_TOKEN to a token of your account.`
        : `${host} does not give ${repo} to the account of HF_TOKEN (${status}). Check the spelling and that the token is valid and may read it; if it is gated, ${terms}.`,
    );
  }
  return undefined;
}
