// One answer on the page: its text as it streams, then its citations, sources and costs. Untrusted text is only ever text nodes.

import { streamCompletion } from "./stream.js";

/** A copy of a template's first element. */
export function copyTemplate(name) {
  return document.getElementById(`${name}-template`).content.firstElementChild.cloneNode(true);
}

/**
 * Put a new answer into `parent` and stream into it.
 *
 * @param site {{domain, documents}}: the domain, and the address its documents stand under.
 * @returns {Promise<{state: "done" | "stopped" | "failed", text: string}>} never rejects: a failure is shown in the answer.
 */
export async function showAnswer(parent, site, { mode, messages, signal }) {
  const view = copyTemplate("answer");
  const [heading, text, error, facts, sources] = view.children;
  heading.textContent = mode;
  parent.append(view);
  const started = performance.now();
  let state = "done";
  let written = "";
  try {
    const answer = await streamCompletion({
      model: `${site.domain}/${mode}`,
      messages,
      signal,
      onText(piece) {
        view.dataset.state = "streaming";
        written += piece;
        text.append(piece);
      },
    });
    linkCitations(text, answer, site);
    showFacts(facts, answer);
    showSources(sources, answer, site);
    if (!answer.text) text.append("(The model wrote nothing.)");
  } catch (failure) {
    state = signal.aborted ? "stopped" : "failed";
    if (state === "stopped") {
      facts.append(fact(`stopped after ${seconds(performance.now() - started)}`));
    } else {
      error.textContent = failure instanceof TypeError ? "The service did not answer. Is it still running?" : failure.message;
      error.hidden = false;
    }
  }
  view.dataset.state = state;
  view.setAttribute("aria-busy", "false");
  return { state, text: written };
}

/** Turn the `[n]` markers that the service vouches for into links. Offsets count characters, not UTF-16 units. */
function linkCitations(text, answer, site) {
  const characters = Array.from(answer.text);
  const spans = answer.annotations.map((annotation) => annotation.url_citation).filter(isMarked);
  spans.sort((a, b) => a.start_index - b.start_index);
  const parts = [];
  let position = 0;
  for (const span of spans) {
    const marker = characters.slice(span.start_index, span.end_index).join("");
    const passage = answer.passages[Number(marker.match(/^\[(\d+)\]$/)?.[1]) - 1];
    if (span.start_index < position || !passage) continue;
    const link = document.createElement("a");
    Object.assign(link, { className: "citation", href: passageAddress(passage, site), target: "_blank", rel: "noopener" });
    link.title = passage.title;
    link.textContent = marker;
    parts.push(characters.slice(position, span.start_index).join(""), link);
    position = span.end_index;
    passage.cited = true;
  }
  text.replaceChildren(...parts, characters.slice(position).join(""));
}

function isMarked(span) {
  return span && span.end_index > span.start_index;
}

/** What the answer cost, in plain words. */
function showFacts(facts, { latencyMs, firstTokenMs, usage, adapter, finishReason }) {
  facts.append(fact(`answered in ${seconds(latencyMs)}`, "latency: from the question to the end of the answer"));
  if (firstTokenMs !== null) facts.append(fact(`first word ${seconds(firstTokenMs)}`, "from the question to the first token"));
  if (usage) {
    facts.append(fact(`${count(usage.prompt_tokens)} tokens read`, "prompt tokens"));
    facts.append(fact(`${count(usage.completion_tokens)} written`, "completion tokens"));
  }
  if (adapter) facts.append(fact(`adapter ${adapter.slice(0, 8)}`, adapter));
  if (finishReason === "length") facts.append(fact("cut at the length limit"));
}

function fact(words, title = "") {
  const element = document.createElement("span");
  element.textContent = words;
  element.title = title;
  return element;
}

/** List the passages the answer was given: the cited ones first, the others folded away when there are cited ones. */
function showSources(sources, { passages }, site) {
  if (!passages.length) return;
  const [heading, list, more] = sources.children;
  const cited = passages.filter((passage) => passage.cited);
  const others = passages.filter((passage) => !passage.cited);
  heading.textContent = cited.length ? "Sources" : "Read, but not cited";
  const item = (passage) => sourceItem(passage, passages.indexOf(passage) + 1, site);
  list.append(...(cited.length ? cited : others).map(item));
  if (cited.length && others.length) {
    more.firstElementChild.textContent = `${others.length} more passage${others.length > 1 ? "s" : ""} read`;
    more.lastElementChild.append(...others.map(item));
    more.hidden = false;
  }
  sources.hidden = false;
}

function sourceItem(passage, number, site) {
  const item = copyTemplate("source");
  const [link, text] = item.children;
  link.href = passageAddress(passage, site);
  link.firstElementChild.textContent = number;
  link.lastElementChild.textContent = passage.title || passage.document_id;
  const repeatsTitle = passage.title && passage.text.startsWith(passage.title);
  text.textContent = (repeatsTitle ? passage.text.slice(passage.title.length) : passage.text).replace(/^[\s.:]+/, "");
  return item;
}

/** The passage's page on this host, whatever address the service has for itself. */
function passageAddress(passage, site) {
  const path = passage.document_id.split("/").map(encodeURIComponent).join("/");
  return `${site.documents}${path}#${encodeURIComponent(passage.chunk_id)}`;
}

function seconds(milliseconds) {
  return `${(milliseconds / 1000).toFixed(milliseconds < 10_000 ? 2 : 1)} s`;
}

function count(number) {
  return number.toLocaleString("en");
}
