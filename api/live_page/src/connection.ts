/**
 * The WebSocket: a ticket for each attempt, exponential backoff with jitter, and the truth about
 * its state. A connection that stays silent is as bad as none, so silence ends it too.
 */
import { type Filters, toRequest } from './filters';
import { parseMessage, type Snapshot } from './protocol';

export type State =
  | { kind: 'connecting' }
  | { kind: 'live' }
  | { kind: 'reconnecting'; attempt: number; retryAt: number; reason: string }
  | { kind: 'signed-out' };

/** Thrown by `ticket` when the session is gone: no retry helps, the user has to sign in. */
export class SignedOut extends Error {}

export interface Socket {
  send(data: string): void;
  close(code?: number): void;
  onopen: (() => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  onerror: (() => void) | null;
}

export interface Parts {
  ticket(): Promise<string>;
  open(path: string): Socket;
  onSnapshot(snapshot: Snapshot, receivedAt: number): void;
  onState(state: State): void;
  onRefusal(message: string): void;
  now(): number;
  random(): number;
}

const FIRST_DELAY = 500;
const LONGEST_DELAY = 15_000;
/** The server speaks every second; longer silence than this means that nobody is there. */
export const SILENCE = 8_000;
const PING_EVERY = 15_000;
/** Close codes by which a server says that the session is not (or no longer) good. */
const UNAUTHORISED = new Set([4401, 4403]);

/** Wait before the nth attempt (from 1): doubled each time, with up to half of it off by chance. */
export function backoff(attempt: number, random: number): number {
  const full = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** (attempt - 1));
  return Math.round(full * (1 - random / 2));
}

export class Connection {
  private socket: Socket | undefined;
  private attempt = 0;
  private generation = 0;
  private retryTimer: ReturnType<typeof setTimeout> | undefined;
  private watch: ReturnType<typeof setInterval> | undefined;
  private lastHeard = 0;
  private lastPing = 0;
  private open = false;

  constructor(
    private filters: Filters,
    private readonly parts: Parts,
  ) {}

  start(): void {
    this.attempt = 0;
    this.parts.onState({ kind: 'connecting' });
    void this.connect();
  }

  stop(): void {
    this.generation += 1;
    clearTimeout(this.retryTimer);
    clearInterval(this.watch);
    this.dropSocket();
  }

  /** Ask for other filters on the open connection, or with the next one. */
  setFilters(filters: Filters): void {
    this.filters = filters;
    if (this.open) {
      this.socket?.send(JSON.stringify({ type: 'filters', ...toRequest(filters) }));
    }
  }

  /** Do not wait any longer: the network is back, or the user asked. */
  retryNow(): void {
    if (this.open) return;
    clearTimeout(this.retryTimer);
    void this.connect();
  }

  private async connect(): Promise<void> {
    this.generation += 1;
    const mine = this.generation;
    this.dropSocket();
    let ticket: string;
    try {
      ticket = await this.parts.ticket();
    } catch (error) {
      if (mine !== this.generation) return;
      if (error instanceof SignedOut) {
        this.stop();
        this.parts.onState({ kind: 'signed-out' });
      } else {
        this.retryLater('the server does not answer');
      }
      return;
    }
    if (mine !== this.generation) return;
    const query = new URLSearchParams({ ...toRequest(this.filters), ticket });
    const socket = this.parts.open(`/v1/live/ws?${query}`);
    this.socket = socket;
    this.lastHeard = this.parts.now();
    clearInterval(this.watch);
    this.watch = setInterval(() => this.check(mine), 1_000);
    const asked = this.filters;
    socket.onopen = () => {
      this.open = true;
      // they may have changed while the connection was being made
      if (asked !== this.filters) this.setFilters(this.filters);
    };
    socket.onmessage = (event) => this.hear(String(event.data));
    socket.onclose = (event) => {
      if (mine !== this.generation) return;
      if (UNAUTHORISED.has(event.code)) {
        // a ticket is short-lived: the next attempt takes a new one and learns about the session
        this.retryLater('the session was not accepted');
      } else {
        this.retryLater(event.reason || 'the connection was lost');
      }
    };
  }

  private hear(text: string): void {
    const message = parseMessage(text);
    if (!message) return;
    const now = this.parts.now();
    this.lastHeard = now;
    if (message.type === 'error') {
      this.parts.onRefusal(message.message);
    } else if (message.type === 'snapshot') {
      this.attempt = 0;
      this.parts.onState({ kind: 'live' });
      this.parts.onSnapshot(message, now);
    }
  }

  private check(mine: number): void {
    if (mine !== this.generation) return;
    const now = this.parts.now();
    if (now - this.lastHeard > SILENCE) {
      this.retryLater('the server fell silent');
    } else if (this.open && now - this.lastPing > PING_EVERY) {
      this.lastPing = now;
      this.socket?.send(JSON.stringify({ type: 'ping' }));
    }
  }

  private retryLater(reason: string): void {
    this.generation += 1;
    clearInterval(this.watch);
    clearTimeout(this.retryTimer);
    this.dropSocket();
    this.attempt += 1;
    const wait = backoff(this.attempt, this.parts.random());
    const retryAt = this.parts.now() + wait;
    this.parts.onState({ kind: 'reconnecting', attempt: this.attempt, retryAt, reason });
    this.retryTimer = setTimeout(() => void this.connect(), wait);
  }

  private dropSocket(): void {
    this.open = false;
    const socket = this.socket;
    this.socket = undefined;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
    socket.close();
  }
}
