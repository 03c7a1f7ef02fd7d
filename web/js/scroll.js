// Following an answer without fighting its reader: whoever scrolls up is left alone until they come back to the end. A question that
// was just sent stands at the top, above a room that its answer fills, so that nothing moves until the first screen is full.

const NEAR = 60;

export class Follower {
  constructor(box, button) {
    this.box = box;
    this.button = button;
    this.pinned = true;
    this.expected = -1;
    box.addEventListener("scroll", () => this.scrolled(), { passive: true });
    box.addEventListener("wheel", (event) => event.deltaY < 0 && this.unpin(), { passive: true });
    box.addEventListener("keydown", (event) => ["PageUp", "Home", "ArrowUp"].includes(event.key) && this.unpin());
    let from = 0;
    box.addEventListener("touchstart", (event) => (from = event.touches[0]?.clientY ?? 0), { passive: true });
    box.addEventListener("touchmove", (event) => (event.touches[0]?.clientY ?? 0) - from > 10 && this.unpin(), {
      passive: true,
    });
    document.addEventListener("selectionchange", () => {
      const chosen = document.getSelection();
      if (chosen && !chosen.isCollapsed && box.contains(chosen.anchorNode)) this.unpin();
    });
    button.addEventListener("click", () => this.toEnd());
    new ResizeObserver(() => {
      this.makeRoom();
      this.follow();
    }).observe(box);
    window.visualViewport?.addEventListener("resize", () => this.follow());
  }

  get end() {
    return this.box.scrollHeight - this.box.clientHeight;
  }

  /** The question goes to the top; the answer below it gets the rest of the view, before it has a word. */
  lead(question, answer) {
    this.led = { question, answer };
    this.makeRoom();
    this.toEnd();
  }

  makeRoom() {
    const { question, answer } = this.led ?? {};
    if (!question?.isConnected || !answer?.isConnected) return;
    const { paddingTop, paddingBottom } = getComputedStyle(this.box);
    const around = [paddingTop, paddingBottom, getComputedStyle(answer).marginBottom].map(parseFloat);
    const taken = around.reduce((sum, one) => sum + one, answer.offsetTop - question.offsetTop);
    answer.style.minHeight = `${Math.max(0, this.box.clientHeight - taken)}px`;
  }

  unpin() {
    if (this.end < NEAR) return;
    this.pinned = false;
    this.box.classList.remove("pinned");
  }

  pin() {
    this.pinned = true;
    this.box.classList.add("pinned");
    this.button.hidden = true;
  }

  scrolled() {
    const { scrollTop } = this.box;
    // Where we put it ourselves, it says nothing about the reader.
    if (Math.abs(scrollTop - this.expected) <= 1) return;
    if (this.end - scrollTop < NEAR) this.pin();
    else if (scrollTop < this.expected - 1) this.unpin();
  }

  /** New text has come. */
  follow() {
    if (this.pinned) {
      this.expected = this.end;
      this.box.scrollTop = this.expected;
    } else this.button.hidden = this.end - this.box.scrollTop < NEAR;
  }

  toEnd() {
    this.pin();
    this.follow();
  }
}
