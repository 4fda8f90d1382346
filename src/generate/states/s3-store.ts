/** Saved states in a bucket of S3, or of a compatible service. */
import { AwsClient } from 'aws4fetch';
import { ConfigError, StorageError } from '../../errors.js';
import type { Store } from './store.js';
import { getThroughFile, putThroughFile } from './through-file.js';

const PATIENCE = 60_000;

/** States as objects of an S3 bucket. */
export class S3Store implements Store {
  private constructor(
    private readonly client: AwsClient,
    /** The URL of the bucket, with a slash at the end. */
    private readonly bucket: string,
    /** A prefix of all keys: empty, or a path with a slash at the end. */
    private readonly prefix: string,
  ) {}

  /** `s3://bucket/prefix?endpoint=...&region=...`. Throws `ConfigError`. */
  static at(place: string, environment: NodeJS.ProcessEnv): S3Store {
    let url: URL;
    let endpoint: URL;
    try {
      url = new URL(place);
      const region = url.searchParams.get('region') ?? environment.AWS_REGION ?? 'us-east-1';
      endpoint = new URL(url.searchParams.get('endpoint') ?? `https://s3.${region}.amazonaws.com`);
    } catch (error) {
      throw new ConfigError(
        `the store ${place} cannot be understood: expected s3://bucket/prefix?endpoint=https://host&region=name`,
        { cause: error },
      );
    }
    const { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey } = environment;
    if (!accessKeyId || !secretAccessKey) {
      throw new ConfigError(
        'a store in S3 needs credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY',
      );
    }
    const region = url.searchParams.get('region') ?? environment.AWS_REGION ?? 'us-east-1';
    const sessionToken = environment.AWS_SESSION_TOKEN;
    const client = new AwsClient({
      accessKeyId,
      secretAccessKey,
      ...(sessionToken && { sessionToken }),
      service: 's3',
      region,
      retries: 3,
    });
    const path = url.pathname.replace(/^\/+|\/+$/g, '');
    const base = endpoint.href.replace(/\/+$/, '');
    return new S3Store(client, `${base}/${url.host}/`, path === '' ? '' : `${path}/`);
  }

  async get(key: string): Promise<Uint8Array | undefined> {
    const response = await this.ask('GET', key);
    return response && new Uint8Array(await response.arrayBuffer());
  }

  async put(key: string, bytes: Uint8Array): Promise<void> {
    await this.ask('PUT', key, { body: bytes as Uint8Array<ArrayBuffer> });
  }

  getFile<T>(key: string, read: (path: string) => Promise<T>): Promise<T | undefined> {
    return getThroughFile(this, key, read);
  }

  putFile(key: string, write: (path: string) => Promise<void>): Promise<number> {
    return putThroughFile(this, key, write);
  }

  async copy(from: string, to: string): Promise<boolean> {
    const { pathname } = new URL(this.urlOf(from));
    return (await this.ask('PUT', to, { headers: { 'x-amz-copy-source': pathname } })) !== undefined;
  }

  async delete(key: string): Promise<boolean> {
    // S3's response to DELETE is the same whether or not the object existed.
    const there = await this.ask('HEAD', key);
    await this.ask('DELETE', key);
    return there !== undefined;
  }

  async list(prefix: string): Promise<string[]> {
    const keys: string[] = [];
    let next: string | undefined;
    do {
      const query = new URLSearchParams({
        'list-type': '2',
        prefix: `${this.prefix}${prefix}`,
        ...(next !== undefined && { 'continuation-token': next }),
      });
      const response = await this.ask('GET', `?${query}`);
      const xml = (await response?.text()) ?? '';
      for (const [, key] of xml.matchAll(/<Key>([^<]*)<\/Key>/g)) {
        keys.push(unescaped(key!).slice(this.prefix.length));
      }
      const token = /<NextContinuationToken>([^<]*)</.exec(xml)?.[1];
      next = token === undefined ? undefined : unescaped(token);
    } while (next !== undefined);
    return keys;
  }

  async close(): Promise<void> {}

  /** Sends a request; undefined if there is no such key. A key that begins with `?` addresses the bucket itself. */
  private async ask(
    method: string,
    key: string,
    init: { body?: Uint8Array<ArrayBuffer>; headers?: Record<string, string> } = {},
  ): Promise<Response | undefined> {
    const url = key.startsWith('?') ? `${this.bucket.slice(0, -1)}${key}` : this.urlOf(key);
    let response: Response;
    try {
      response = await this.client.fetch(url, { method, ...init, signal: AbortSignal.timeout(PATIENCE) });
    } catch (error) {
      throw new StorageError(`the store of the states cannot be reached: ${(error as Error).message}`, {
        cause: error,
      });
    }
    if (response.ok) return response;
    const words = await response.text();
    if (response.status === 404 && !words.includes('NoSuchBucket')) return undefined;
    const code = /<Code>([^<]*)</.exec(words)?.[1] ?? response.statusText;
    throw new StorageError(`the store of the states refused (${response.status} ${code})`);
  }

  private urlOf(key: string): string {
    return `${this.bucket}${this.prefix}${key}`;
  }
}

function unescaped(text: string): string {
  return text
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&quot;', '"')
    .replaceAll('&amp;', '&');
}
