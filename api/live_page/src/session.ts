/** Signing in: the token is posted once and lives in a cookie that scripts cannot read. */
import { SignedOut } from './connection';

export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

interface Problem {
  title?: string;
  detail?: string;
}

async function call(method: string, path: string, body?: unknown): Promise<Response> {
  const response = await fetch(path, {
    method,
    credentials: 'same-origin',
    ...(body === undefined
      ? {}
      : { headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) }),
  });
  if (response.ok) return response;
  const problem = (await response.json().catch(() => ({}))) as Problem;
  const message = problem.detail || problem.title || `the server answered ${response.status}`;
  throw new ApiError(response.status, message);
}

/** Exchange the API's token for a session. */
export async function signIn(token: string): Promise<void> {
  await call('POST', '/v1/live/session', { token });
}

export async function signOut(): Promise<void> {
  await call('DELETE', '/v1/live/session');
}

/** A ticket for one connection. */
export async function ticket(): Promise<string> {
  try {
    const response = await call('POST', '/v1/live/tickets');
    return ((await response.json()) as { ticket: string }).ticket;
  } catch (error) {
    if (error instanceof ApiError && (error.status === 401 || error.status === 403)) {
      throw new SignedOut(error.message);
    }
    throw error;
  }
}

export async function acknowledgeAlert(alertId: string): Promise<void> {
  await call('POST', `/v1/alerts/${encodeURIComponent(alertId)}/acknowledge`, {});
}
