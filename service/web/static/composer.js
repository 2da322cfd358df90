// The form that chat and comparison share: Enter sends, Stop and Escape abort, suggestions fill it in, the modes explain themselves.

/**
 * Wire up the composer of one view.
 *
 * @param ask {(question: string, modes: string[], signal: AbortSignal) => Promise<boolean>}: answers; false gives the question back.
 * @returns {{stop: () => void, explain: () => void}} `explain` says anew what the chosen modes do.
 */
export function setupComposer(view, ask) {
  const form = view.querySelector("[data-composer]");
  const question = form.elements.question;
  const [send, stop] = [form.querySelector("[data-send]"), form.querySelector("[data-stop]")];
  const compares = form.querySelector(".segment input").type === "checkbox";
  const say = (words) => (form.querySelector("[data-about-mode]").textContent = words);
  let running = null;

  const chosen = () => [...form.querySelectorAll(".segment input:checked:enabled")].map((input) => input.value);
  const explain = () => {
    send.disabled = chosen().length < (compares ? 2 : 1);
    const about = compares ? "" : form.querySelector(".segment:has(input:checked)")?.dataset.about;
    say(send.disabled && compares ? "Choose two or more modes." : about ?? "Choose a mode.");
  };

  async function submit() {
    const asked = question.value.trim();
    if (!asked || running || send.disabled) return;
    running = new AbortController();
    question.value = "";
    [send.hidden, stop.hidden] = [true, false];
    const answered = await ask(asked, chosen(), running.signal);
    running = null;
    [send.hidden, stop.hidden] = [false, true];
    if (!answered && !question.value) question.value = asked;
    if (document.activeElement === document.body) question.focus({ preventScroll: true });
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  question.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    submit();
  });
  view.addEventListener("keydown", (event) => event.key === "Escape" && running?.abort());
  stop.addEventListener("click", () => running?.abort());
  view.querySelectorAll("[data-suggestion]").forEach((button) => {
    button.addEventListener("click", () => {
      question.value = button.textContent;
      submit();
    });
  });
  form.addEventListener("change", explain);
  form.addEventListener("click", (event) => {
    const label = event.target.closest(".segment:has(input:disabled)");
    if (label) say(label.dataset.reason);
  });
  explain();
  return { stop: () => running?.abort(), explain };
}
