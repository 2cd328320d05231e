// The server's HTTP API. Every failure becomes a ServerError with one sentence for the reader.

const PATIENCE = 60_000; // milliseconds

export class ServerError extends Error {
  /** status: of HTTP; 0 where no answer came. */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** What is served: bridges, collections with their columns, what may be asked, limits. */
export const info = () => call("v1/info");

/** The answer to one query in `collections`, k hits from `offset` on. */
export async function search(query, options, signal) {
  const { results } = await call("v1/search", { queries: [query], ...options }, signal);
  return results[0];
}

/** One item of a collection, as a hit without a score. */
export const item = (id, collection) =>
  call(`v1/items/${encodeURIComponent(id)}?collection=${encodeURIComponent(collection)}`);

/** JSON from an address that the server gave, such as a waveform. */
export const json = (address) => call(address);

async function call(address, body, signal) {
  const patience = AbortSignal.timeout(PATIENCE);
  const options = { signal: signal ? AbortSignal.any([signal, patience]) : patience };
  if (body) {
    options.method = "POST";
    options.headers = { "Content-Type": "application/json" };
    options.body = JSON.stringify(body);
  }
  let answer;
  let content;
  try {
    answer = await fetch(address, options);
    content = await answer.json().catch((error) => {
      if (error.name === "SyntaxError") return null;
      throw error;
    });
  } catch (error) {
    if (signal?.aborted) throw error; // another search has begun
    const late = error.name === "TimeoutError";
    const fact = late ? "The server has not answered for a minute." : "The server does not answer.";
    throw new ServerError(`${fact} Is mcr serve still running?`, 0);
  }
  if (!answer.ok || content === null) {
    throw new ServerError(sentence(content?.detail) ?? `The server said ${answer.status}.`, answer.status);
  }
  return content;
}

function sentence(detail) {
  if (Array.isArray(detail)) return detail.map((one) => one.msg).join("; ");
  return typeof detail === "string" ? detail : null;
}
