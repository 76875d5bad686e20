// Storage that outlives the page where the browser grants it, and never throws.

export const memory = {
  read(key) {
    try {
      return JSON.parse(localStorage.getItem(key) || "null");
    } catch {
      return null;
    }
  },
  write(key, value) {
    try {
      localStorage.setItem(key, JSON.stringify(value));
      return true;
    } catch {
      return false; // a sandboxed frame, private browsing, or full
    }
  },
};
