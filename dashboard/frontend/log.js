// The end of a log as text. New lines are put in place: who reads further up is not moved, who is at the end follows.
// data: { text, empty: whether text only says that nothing was printed yet }

export default function ({ parentElement, data }) {
  let box = parentElement.querySelector("pre.sv-log");
  if (!box) {
    box = document.createElement("pre");
    box.className = "sv-log";
    box.tabIndex = 0;
    box.setAttribute("role", "log");
    box.setAttribute("aria-label", "What the job printed, newest at the end");
    parentElement.append(box);
  }
  box.classList.toggle("sv-dim", data.empty);
  if (box.textContent === data.text) return;
  const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 24;
  const place = box.scrollTop;
  box.textContent = data.text;
  box.scrollTop = atEnd ? box.scrollHeight : place;
}
