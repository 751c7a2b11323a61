package powercut

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const gibibyte = 1 << 30

// Making a volume costs no more on a large disk than on a small one: the tags of
// sectors that nobody has written are not. A disk that has grown is used whole.
func TestVMVolumesOfAnySize(t *testing.T) {
	if os.Getenv("SHED_VM_TESTS") != "1" {
		t.Skip("boots machines: set SHED_VM_TESTS=1 to run it")
	}
	dir := t.TempDir()
	m := newMachine(t, dir)
	small, large := filepath.Join(dir, "small"), filepath.Join(dir, "large")
	sparse(t, small, gibibyte)
	sparse(t, large, 100*gibibyte)
	onDisk := func(disk, task, said string) (took time.Duration, bytes int64) {
		t.Helper()
		for _, line := range m.run("powercut."+task+"=1", "-drive", "if=none,id=disk,format=raw,file="+disk, "-device", "virtio-blk-pci,drive=disk") {
			var ms int64
			if n, _ := fmt.Sscanf(line, said+" %d ms %d bytes", &ms, &bytes); n == 2 && strings.HasPrefix(line, said) {
				return time.Duration(ms) * time.Millisecond, bytes
			}
		}
		t.Fatalf("the guest does not say %s", said)
		return 0, 0
	}
	little, smallBytes := onDisk(small, "make", "MADE")
	much, largeBytes := onDisk(large, "make", "MADE")
	t.Logf("1 GiB took %s and holds %d bytes, 100 GiB %s and %d", little, smallBytes, much, largeBytes)
	if much-little > 5*time.Second {
		t.Errorf("100 GiB took %s, 1 GiB %s: more than five seconds less", much, little)
	}
	if smallBytes < gibibyte*9/10 || largeBytes < 97*gibibyte {
		t.Errorf("of 1 GiB %d bytes are left, of 100 GiB %d", smallBytes, largeBytes)
	}
	// What a file that was not there before holds is zeros, as on a disk that a
	// provider has made larger.
	sparse(t, small, 3*gibibyte)
	if took, bytes := onDisk(small, "open", "OPENED"); bytes < 3*gibibyte*9/10 {
		t.Errorf("a disk that has grown to 3 GiB holds %d bytes (opened in %s)", bytes, took)
	} else {
		t.Logf("grown to 3 GiB it holds %d bytes", bytes)
	}
}
