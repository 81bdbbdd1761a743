/** The HTTP interface of `stochloc demo`: JSON, server-sent events, and errors as one sentence. */

async function request(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer; is `stochloc demo` still running?");
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

async function refusal(answer) {
  let sentence = `The server answered with status ${answer.status}.`;
  try {
    const { detail } = await answer.json();
    if (typeof detail === "string") sentence = detail;
  } catch {
    // Not JSON: the status has to do.
  }
  const wait = answer.headers.get("Retry-After");
  if (answer.status === 429 && wait) sentence += ` Try again in ${wait} s.`;
  return new Error(sentence);
}

function post(path, body, accept, signal) {
  const headers = { "Content-Type": "application/json", Accept: accept };
  return request(path, { method: "POST", headers, body: JSON.stringify(body), signal });
}

/** The models that are served, and the server's limits. */
export async function models() {
  return (await request("/api/models", {})).json();
}

/** Ask once, and return the answer's JSON. */
export async function ask(path, body, signal) {
  return (await post(path, body, "application/json", signal)).json();
}

/**
 * Ask, and yield [event, data] as the server sends them. Aborting the signal closes the connection,
 * and the server then ends the computation.
 */
export async function* stream(path, body, signal) {
  const answer = await post(path, body, "text/event-stream", signal);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    let piece;
    try {
      piece = await reader.read();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error("The connection to the server was lost.");
    }
    if (piece.done) return;
    const blocks = (rest + piece.value).replaceAll("\r\n", "\n").split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = parse(block);
      if (event) yield event;
    }
  }
}

/** Read one event: its name and its data, or null for a comment that keeps the connection alive. */
function parse(block) {
  let name = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
  }
  return data.length ? [name, JSON.parse(data.join("\n"))] : null;
}
