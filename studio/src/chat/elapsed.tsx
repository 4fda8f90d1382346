/** A running clock. */
import { useEffect, useState } from 'preact/hooks';
import { formatDuration } from '../../../src/cli/format.js';

/** Seconds since a time in milliseconds since 1970. */
export function Elapsed({ since = Date.now() }: { since: number | undefined }) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  return <span class="elapsed">{formatDuration(Math.max(0, now - since) / 1000)}</span>;
}
