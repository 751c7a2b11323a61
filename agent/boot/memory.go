package boot

import (
	"fmt"
	"os"
)

// Resident is how much memory this program's pages take, in bytes (proc(5), statm).
// Errors are the system's.
func Resident() (int64, error) {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, fmt.Errorf("reading the memory in use: %w", err)
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		return 0, fmt.Errorf("reading the memory in use: %w", err)
	}
	return resident * int64(os.Getpagesize()), nil
}
