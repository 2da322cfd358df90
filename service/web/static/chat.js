// A conversation of many turns, each answered in the mode chosen at that moment.

import { copyTemplate, showAnswer } from "./answer.js";
import { setupComposer } from "./composer.js";

export function setupChat(view, site) {
  const conversation = view.querySelector("[data-conversation]");
  const empty = view.querySelector("[data-empty]");
  const restart = view.querySelector("[data-restart]");
  let messages = [];

  async function ask(question, [mode], signal) {
    [empty.hidden, restart.hidden] = [true, false];
    const turn = copyTemplate("turn");
    turn.firstElementChild.textContent = question;
    conversation.append(turn);
    const follow = followStream(turn);
    const asked = [...messages, { role: "user", content: question }];
    const { state, text } = await showAnswer(turn, site, { mode, messages: asked, signal });
    follow.disconnect();
    const kept = state !== "failed" && text !== "" && turn.isConnected;
    if (kept) messages = [...asked, { role: "assistant", content: text }];
    return state !== "failed";
  }

  const composer = setupComposer(view, ask);
  restart.addEventListener("click", () => {
    composer.stop();
    messages = [];
    conversation.replaceChildren();
    [empty.hidden, restart.hidden] = [false, true];
    view.querySelector("textarea").focus();
  });
  return composer;
}

/** Keep the end of a growing turn in sight, until the reader scrolls away from it. */
function followStream(turn) {
  const scroll = () => window.scrollTo({ top: document.documentElement.scrollHeight });
  let seen = 0;
  const observer = new ResizeObserver(() => {
    const { scrollHeight } = document.documentElement;
    const fromEnd = seen - window.scrollY - window.innerHeight;
    if (seen === 0 || fromEnd < 80) scroll();
    seen = scrollHeight;
  });
  observer.observe(turn);
  return { disconnect: () => requestAnimationFrame(() => requestAnimationFrame(() => observer.disconnect())) };
}
