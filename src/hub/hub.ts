/** A hub of models: its address, its access token, and the errors that its refusals stand for. */
import { quote } from '../checkpoint/index.js';
import { HubError } from '../errors.js';
import type { Source } from './connection.js';

/** The address and access token of a hub: Hugging Face's, or one with the same protocol. */
export interface Hub {
  /** Without a trailing slash. */
  readonly endpoint: string;
  readonly token?: string;
}

/** The hub of `HF_ENDPOINT` (default: Hugging Face's), with the token of `HF_TOKEN` or `HUGGING_FACE_HUB_TOKEN`, if one is set. Throws `HubError` for a malformed address or token. */
export function hubFromEnvironment(environment: NodeJS.ProcessEnv = process.env): Hub {
  const given = environment.HF_ENDPOINT?.trim() || 'https://huggingface.co';
  const url = URL.canParse(given) ? new URL(given) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '') {
    throw new HubError(
      'HF_ENDPOINT is not the address of a hub. Expected one such as https://huggingface.co, without a user name or password.',
    );
  }
  const endpoint = `${url.origin}${url.pathname}`.replace(/\/+$/, '');
  const token = (environment.HF_TOKEN?.trim() || environment.HUGGING_FACE_HUB_TOKEN?.trim()) ?? '';
  // An error of `fetch` would show a malformed header, so a malformed token is never sent.
  if (!/^[\x21-\x7e]*$/.test(token)) {
    throw new HubError('HF_TOKEN contains characters that no token has. Copy it again from the hub.');
  }
  return token === '' ? { endpoint } : { endpoint, token };
}

/** Thrown when the repository's files differ from the list that was fetched earlier. */
export class Changed extends Error {}

/** The `Source` of one revision of one repository on a hub. */
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

/** The error that a failed response from the hub stands for. */
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
        : `${host} does not give the account of HF_TOKEN access to ${repo} (${status}). Check the spelling and that the token is valid and may read it; if it is gated, ${terms}.`,
    );
  }
  return undefined;
}
