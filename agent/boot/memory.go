package boot

import (
	"fmt"
	"os"
)

// residentStep is what Resident is rounded up to.
const residentStep = 1 << 20

// Resident is how much memory this program's pages take, in bytes (proc(5), statm). It
// is coarse, since it is said on the console, which the host reads, and the payload has
// some say in it. Errors are the system's.
func Resident() (int64, error) {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, fmt.Errorf("reading the memory in use: %w", err)
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		return 0, fmt.Errorf("reading the memory in use: %w", err)
	}
	bytes := resident * int64(os.Getpagesize())
	return (bytes + residentStep - 1) / residentStep * residentStep, nil
}
