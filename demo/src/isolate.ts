/**
 * Threads may share memory on an isolated page alone, which needs two headers. Where the host does not send them the service
 * worker adds them, from the second time on that the page is opened: so it is opened twice.
 */

const TRIED = 'heddle.isolating';

/** False where the page is about to be opened again. */
export async function isolate(): Promise<boolean> {
  if (!navigator.serviceWorker) return true;
  const registration = await navigator.serviceWorker.register('service-worker.js').catch(() => undefined);
  if (crossOriginIsolated || !registration || sessionStorage.getItem(TRIED)) {
    sessionStorage.removeItem(TRIED);
    return true;
  }
  await navigator.serviceWorker.ready;
  sessionStorage.setItem(TRIED, 'yes');
  location.reload();
  return false;
}
