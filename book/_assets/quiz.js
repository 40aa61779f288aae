// Answers a question in its place: the reason of the chosen option, from the list below the question, goes into the
// question's live region. Without this script that list is opened by hand.
for (const form of document.querySelectorAll("form.question")) {
  const reasons = form.nextElementSibling.querySelectorAll("li");
  const said = form.querySelector("[role=status]");
  const button = form.querySelector("button");
  button.hidden = button.disabled = false;

  const forget = () => {
    said.replaceChildren();
    said.classList.remove("right", "wrong");
    form.querySelectorAll("li").forEach((option) => option.classList.remove("right", "wrong"));
  };
  form.addEventListener("change", forget);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    forget();
    const chosen = form.querySelector("input:checked");
    const reason = reasons[chosen.value - 1];
    said.append(...reason.cloneNode(true).childNodes);
    for (const element of [said, chosen.closest("li")]) element.classList.add(...reason.classList);
  });
}
