// One streamed completion over the public API: a model name and messages in, deltas out, then the whole answer.

/**
 * Ask, and call `onText` with every piece of the completion.
 *
 * @returns {Promise<{text, annotations, passages, adapter, usage, finishReason, firstTokenMs, latencyMs}>}
 * @throws {Error} with the service's own message; an AbortError when `signal` fired.
 */
export async function streamCompletion({ model, messages, signal, onText }) {
  const started = performance.now();
  const elapsed = () => performance.now() - started;
  const answer = {
    text: "", annotations: [], passages: [], adapter: null, usage: null, finishReason: null, firstTokenMs: null, latencyMs: 0,
  };
  // Greedy, as eval measures: what a person reads here is what the table scored.
  const sampling = { temperature: 0, stream: true, stream_options: { include_usage: true } };
  const body = JSON.stringify({ model, messages, ...sampling });
  const headers = { "content-type": "application/json" };
  const reply = await fetch("/v1/chat/completions", { method: "POST", headers, body, signal });
  if (reply.status === 401) location.assign("/sign-in");
  if (!reply.ok) throw new Error(await readError(reply));
  for await (const data of readEvents(reply.body)) {
    if (data === "[DONE]") return { ...answer, latencyMs: elapsed() };
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Error(chunk.error.message);
    answer.usage = chunk.usage ?? answer.usage;
    answer.passages = chunk.bakeoff?.passages ?? answer.passages;
    answer.adapter = chunk.bakeoff?.adapter ?? answer.adapter;
    const choice = chunk.choices?.[0];
    answer.annotations.push(...(choice?.delta?.annotations ?? []));
    answer.finishReason = choice?.finish_reason ?? answer.finishReason;
    if (choice?.delta?.content) {
      answer.firstTokenMs ??= elapsed();
      answer.text += choice.delta.content;
      onText(choice.delta.content);
    }
  }
  throw new Error("The connection closed before the answer was complete.");
}

/** The `data` of every server-sent event. OpenAI's events are one line each. */
async function* readEvents(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data:")) yield line.slice(5).trim();
    }
  }
}

async function readError(reply) {
  try {
    return (await reply.json()).error.message;
  } catch {
    return `The service answered with status ${reply.status}.`;
  }
}
