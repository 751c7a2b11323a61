package plugin

import (
	"os"
	"runtime"
	"sync"
)

// width has a plugin's process run Go code on one processor, unless bulk work
// is under way. A call passes from one goroutine to the next and computes next
// to nothing: with several processors each pass wakes a thread that finds the
// work done (decision 0072). Calls that wait, for a cloud or a disk, hold none.
type width struct {
	mu sync.Mutex
	// mu guards bulk, how much bulk work is under way.
	bulk int
}

// newWidth is nil, which changes nothing, where the environment says how wide
// the process is to be.
func newWidth() *width {
	if os.Getenv("GOMAXPROCS") != "" {
		return nil
	}
	runtime.GOMAXPROCS(1)
	return &width{}
}

// widen gives the process all processors until done is called.
func (w *width) widen() (done func()) {
	if w == nil {
		return func() {}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bulk++; w.bulk == 1 {
		runtime.SetDefaultGOMAXPROCS()
	}
	return w.narrow
}

func (w *width) narrow() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bulk--; w.bulk == 0 {
		runtime.GOMAXPROCS(1)
	}
}
