// One press does one thing: what a double click or a held key adds is not meant for what the first
// press has put under it.

const PRESSED = "button, a, summary";

/** Ignore, on the whole page, the further clicks of a double click that hit another button than the first, and a held Enter. */
export function takePressesOnce() {
  let first = ""; // what the button says that the first click of the gesture hit; it may be made anew
  document.addEventListener(
    "click",
    (event) => {
      const hit = event.target.closest?.(PRESSED);
      const says = hit ? hit.getAttribute("aria-label") || hit.textContent : "";
      if (event.detail <= 1) first = says;
      else if (hit && says !== first) refuse(event);
    },
    { capture: true },
  );
  document.addEventListener("keydown", (event) => event.repeat && event.key === "Enter" && event.target.tagName !== "TEXTAREA" && refuse(event), { capture: true });
}

function refuse(event) {
  event.preventDefault();
  event.stopPropagation();
}
