package main

import (
	"fmt"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// step runs one named step and says how long it took.
func step(name string, f func() error) error {
	started := time.Now()
	if interactive() {
		fmt.Printf("  %s …", name)
	}
	err := f()
	clear := ""
	if interactive() {
		clear = "\r\x1b[K"
	}
	if err != nil {
		fmt.Printf("%s✗ %s\n", clear, name)
		return fmt.Errorf("%s: %w", name, err)
	}
	fmt.Printf("%s✓ %-44s %6.1fs\n", clear, name, time.Since(started).Seconds())
	return nil
}

func interactive() bool { return term.IsTerminal(int(os.Stdout.Fd())) }

// waiting shows seconds against what such a wait usually takes; elsewhere than
// on a terminal it shows nothing.
type waiting struct {
	bar     *progressbar.ProgressBar
	started time.Time
	usual   time.Duration
}

func newWaiting(name string, usual time.Duration) *waiting {
	w := &waiting{started: time.Now(), usual: usual}
	if interactive() {
		w.bar = progressbar.NewOptions64(usual.Milliseconds(),
			progressbar.OptionSetDescription("  "+name), progressbar.OptionSetWidth(30),
			progressbar.OptionSetPredictTime(false), progressbar.OptionClearOnFinish())
	}
	return w
}

// tell shows what is being waited for now.
func (w *waiting) tell(state string) {
	if w.bar == nil {
		return
	}
	w.bar.Describe("  " + state)
	elapsed := min(time.Since(w.started), w.usual-time.Millisecond)
	w.bar.Set64(elapsed.Milliseconds()) //nolint:errcheck // a bar that can't be drawn is no failure
}

func (w *waiting) done() {
	if w.bar != nil {
		w.bar.Finish() //nolint:errcheck // as above
		fmt.Print("\r\x1b[K")
	}
}
