// Keeps "3 min ago" true on an open page: a moment's age is text that no server event would ever renew.
// It touches only elements with data-at (seconds since 1970), once in ten seconds, and rests while the tab is hidden.

const ages = (globalThis.seqsetAges ??= { timer: 0, users: 0 });

function words(seconds) {
  const whole = Math.max(Math.round(seconds), 0);
  const two = (number) => String(number).padStart(2, "0");
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${two(whole % 60)} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h ${two(minutes % 60)} min`;
  return `${Math.floor(hours / 24)} d ${two(hours % 24)} h`;
}

function renew() {
  if (document.hidden) return;
  for (const element of document.querySelectorAll("[data-at]")) {
    const text = `${words(Date.now() / 1000 - Number(element.dataset.at))} ago`;
    if (element.textContent !== text) element.textContent = text;
  }
}

export default function () {
  ages.users += 1;
  ages.timer ||= setInterval(renew, 10000);
  return () => {
    ages.users -= 1;
    if (ages.users === 0) {
      clearInterval(ages.timer);
      ages.timer = 0;
    }
  };
}
