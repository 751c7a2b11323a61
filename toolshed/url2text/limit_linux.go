package url2text

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// limitProcess bounds this process for good: over it, the kernel ends it or
// gives it no memory.
func limitProcess(cpu time.Duration, memory uint64) error {
	for resource, most := range map[int]uint64{
		unix.RLIMIT_CPU: uint64(cpu.Seconds()), unix.RLIMIT_DATA: memory, unix.RLIMIT_NOFILE: 64, unix.RLIMIT_FSIZE: 0, unix.RLIMIT_CORE: 0,
	} {
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: most, Max: most}); err != nil {
			return fmt.Errorf("limiting the process: %w", err)
		}
	}
	return nil
}
