//go:build !linux

package url2text

import (
	"runtime/debug"
	"time"
)

// limitProcess can only ask the garbage collector here: time is bounded by
// whoever started the process.
func limitProcess(_ time.Duration, memory uint64) error {
	debug.SetMemoryLimit(int64(memory))
	return nil
}
