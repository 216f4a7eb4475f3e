// The payloads of the HTTP API: api/server.yaml and api/openapi.yaml have what each field means.

export type SandboxState = 'creating' | 'running' | 'paused' | 'ending' | 'ended';

export interface Sandbox {
  sandbox_id: string;
  template: string;
  state: SandboxState;
  cwd: string;
  metadata: Record<string, string>;
  created_at: string;
  last_active_at: string;
  expires_at: string | null;
  timeout: number;
  limits: { memory_mb: number; cpus: number; pids: number; disk_mb: number; open_files: number };
  network: { mode: string };
  isolation: { level: string; missing: Record<string, string>; enforced: Record<string, string>; warning?: string };
  reason?: string;
  ended_at?: string;
}

export interface SandboxPage {
  sandboxes: Sandbox[];
  next_cursor?: string;
}

export interface NewSandbox {
  template?: string;
  timeout?: number;
  metadata?: Record<string, string>;
  limits?: { memory_mb?: number; cpus?: number };
  network?: { mode?: string };
}

export interface Template {
  template: string;
  default: boolean;
  unavailable?: string;
}

/** A browser that is logged in. */
export interface Browser {
  id: string;
  begun_at: string;
  expires_at: string;
  current: boolean;
}

export interface Usage {
  time: string;
  cpus?: number;
  memory_bytes?: number;
  pids?: number;
  disk_bytes?: number;
  received_bytes?: number;
  sent_bytes?: number;
}

export interface Context {
  context_id: string;
  language: string;
  kernel: string;
  cwd: string;
  state: 'idle' | 'busy' | 'dead' | string;
  running?: string;
  queued: number;
  execution_count: number;
}

export type RunStatus =
  | 'ok'
  | 'error'
  | 'timeout'
  | 'interrupted'
  | 'aborted'
  | 'kernel_died'
  | 'sandbox_killed'
  | 'cut';

export interface Execution {
  execution_id: string;
  context: string;
  state: 'queued' | 'running' | 'done';
  status?: RunStatus;
  execution_count: number | null;
  created_at: string;
  started_at: string | null;
  ended_at: string | null;
  events: number;
  bytes: number;
  waiting_for_input: boolean;
  code?: string; // where one is asked for
}

export interface HistoryEntry {
  execution_id: string;
  execution_count: number | null;
  code: string;
  state: Execution['state'];
  status?: RunStatus;
  started_at: string;
  ended_at: string | null;
}

export interface Exit {
  code: number;
  signal?: string;
  oom?: boolean;
  stderr?: string;
}

export type Bundle = Record<string, unknown>;

/** A line of a stream. Which fields it has depends on its type. */
export interface Line {
  seq: number;
  type: string;
  time: string;
  text?: string;
  execution_id?: string;
  context?: string;
  execution_count?: number | null;
  is_main?: boolean;
  display_id?: string;
  data?: Bundle | string;
  metadata?: Bundle;
  wait?: boolean;
  prompt?: string;
  password?: boolean;
  name?: string;
  value?: string;
  traceback?: string[];
  stream?: string;
  bytes?: number;
  status?: string;
  state_lost?: boolean;
  output_lost?: boolean;
  exit?: Exit;
  duration?: number;
  error?: { code: string; message: string };
  reason?: string;
}

export type Source = 'stream' | 'timeline' | 'execution' | 'process' | 'watch' | 'metrics';

/** A line of a sandbox's stream: whose it is, and what it says. */
export interface StreamLine extends Line {
  source: Source;
  id?: string;
  epoch?: string;
  cursor?: string;
  pid?: number;
  cmd?: string;
  exit_code?: number;
  signal?: string;
  oom?: boolean;
  packages?: string[];
  port?: number;
  client?: string;
  path?: string;
  from?: string;
  is_dir?: boolean;
  cpu_seconds?: number;
  memory_bytes?: number;
  processes?: number;
  open_files?: number;
}

export interface Entry {
  name: string;
  path: string;
  path_base64?: string;
  type: 'file' | 'dir' | 'symlink' | 'other';
  size: number;
  mode: string;
  owner: string;
  group: string;
  modified_at: string;
  target?: string;
  unreadable?: boolean;
}

export interface EntryPage {
  entries: Entry[];
  next_cursor?: string;
}

export interface Process {
  pid: number;
  cmd?: string;
  args: string[];
  cwd: string;
  pty?: { rows: number; cols: number };
  state: 'running' | 'done';
  status?: string;
  exit_code: number | null;
  signal: string | null;
  oom?: boolean;
  started_at: string;
  ended_at: string | null;
  cpu_seconds: number;
  memory_bytes: number;
  events: number;
}

export interface Completion {
  matches: string[];
  cursor_start: number;
  cursor_end: number;
}

export interface Variable {
  name: string;
  kind: string;
  type: string;
  size?: number;
  length?: number;
  shape?: number[];
  dtype?: string;
  repr: string;
}

export interface Ability {
  available: boolean;
  reason?: string;
}

export interface Capabilities {
  version: string;
  platform: string;
  isolation: Sandbox['isolation'];
  levels: Record<string, string>;
  networks: string[];
  fronts: string[];
  pause: Ability;
  snapshots: Ability;
  root: Ability;
  previews?: Ability; // of servers that know it
  limits: { max_sandboxes: number; creates_per_minute: number };
}

/** What the session in the browser's cookie may do. */
export interface Session {
  key: string;
  sandbox: string;
  read_only: boolean;
  expires_at: string | null;
  version: string;
}
