/** Asks a machine through its control socket. */
/** Milliseconds until an answer; a machine that stands still under load takes seconds. */
const TIMEOUT = 30_000;
/** Bytes of an answer. */
const ANSWER_MAX = 2 ** 20;

/** The answer's body: what JSON it holds. Throws an Error of one line that names the socket. */
export async function ask(socket: string, method: string, path: string, body?: unknown): Promise<unknown> {
  const { status, text } = await exchange(socket, method, path, body);
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch {
    throw new Error(`${socket}: what answers there is no machine`);
  }
  if (status >= 200 && status < 300) return answer;
  const reason = (answer as { error?: unknown } | null)?.error;
  throw new Error(`${socket}: ${typeof reason === 'string' ? reason : `it answers with status ${status}`}`);
}

async function exchange(
  socket: string,
  method: string,
  path: string,
  body: unknown,
): Promise<{ readonly status: number; readonly text: string }> {
  // The command line imports this file, and mostly has nothing to ask: HTTP takes longer to load than all of the rest.
  const { request } = await import('node:http');
  return new Promise((resolve, reject) => {
    const fail = (why: string): void => reject(new Error(`${socket}: ${why}`));
    const bytes = body === undefined ? Buffer.alloc(0) : Buffer.from(JSON.stringify(body));
    const headers = { 'Content-Type': 'application/json', 'Content-Length': bytes.length };
    const message = request({ socketPath: socket, method, path, headers, timeout: TIMEOUT }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (piece: string) => {
        text += piece;
        if (text.length > ANSWER_MAX) response.destroy(new Error('what answers there is no machine'));
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
      response.on('error', (error) => fail(error.message));
    });
    message.on('timeout', () => message.destroy(new Error('the machine does not answer')));
    message.on('error', (error: NodeJS.ErrnoException) => fail(describe(error)));
    message.end(bytes);
  });
}

function describe({ code, message }: NodeJS.ErrnoException): string {
  switch (code) {
    case 'ENOENT':
      return 'there is no such socket';
    case 'ECONNREFUSED':
      return 'no machine listens there';
    case 'EACCES':
      return 'this user may not connect to it';
    case 'ENOTSOCK':
      return 'it is no socket';
    case 'EPROTOTYPE':
      return 'it is a socket of another kind';
    default:
      return code?.startsWith('HPE_') ? 'what answers there is no machine' : message;
  }
}
