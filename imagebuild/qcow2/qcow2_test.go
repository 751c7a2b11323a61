package qcow2_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/toolshed-cloud/shed/imagebuild/qcow2"
)

// sparse is a disk with some data at its beginning, in it, and at its end.
func sparse(t *testing.T, size int64, at ...int64) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	random := rand.NewChaCha8([32]byte{1})
	block := make([]byte, 512)
	for _, offset := range at {
		random.Read(block)
		if _, err := f.WriteAt(block, offset); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return name
}

func written(t *testing.T, raw string) []byte {
	t.Helper()
	f, err := os.Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	var last int64
	if err := qcow2.Write(&b, f, info.Size(), func(done int64) { last = done }); err != nil {
		t.Fatal(err)
	}
	if last != info.Size() {
		t.Errorf("progress ends at %d of %d", last, info.Size())
	}
	return b.Bytes()
}

// TestQEMUReadsIt has QEMU's own tool check the file and compare it with the
// disk: of one table, of several, of an odd end, and of nothing but zeros.
func TestQEMUReadsIt(t *testing.T) {
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Skip("no qemu-img: it is in the package qemu-utils")
	}
	const cluster, table = 1 << 16, 1 << 29
	for name, disk := range map[string]struct {
		size int64
		at   []int64
	}{
		"small":          {4 * cluster, []int64{0, 3*cluster - 512}},
		"odd end":        {cluster + 1536, []int64{0, 4096, cluster + 1024}},
		"zeros":          {1 << 20, nil},
		"a sector":       {512, []int64{0}},
		"several tables": {3*table + 512, []int64{0, table - 512, table, 2*table + cluster, 3 * table}},
	} {
		raw := sparse(t, disk.size, disk.at...)
		b := written(t, raw)
		file := filepath.Join(t.TempDir(), "disk.qcow2")
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("qemu-img", "check", "-f", "qcow2", file).CombinedOutput(); err != nil {
			t.Errorf("%s: qemu-img check: %v\n%s", name, err, out)
		}
		if out, err := exec.Command("qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, file).CombinedOutput(); err != nil {
			t.Errorf("%s: qemu-img compare: %v\n%s", name, err, out)
		}
		if odd := int(disk.size % cluster); odd > 0 && len(disk.at) > 0 {
			if tail := b[len(b)-cluster+odd:]; !bytes.Equal(tail, make([]byte, len(tail))) {
				t.Errorf("%s: something stands behind the disk's end", name)
			}
		}
		if len(b) > 20*cluster {
			t.Errorf("%s: %d bytes for %d sectors of data", name, len(b), len(disk.at))
		}
		if !bytes.Equal(b, written(t, raw)) {
			t.Errorf("%s: twice is not the same", name)
		}
	}
}

// broken fails as a full disk or a torn file does.
type broken struct{ after int }

var errBroken = errors.New("broken")

func (b *broken) Write(p []byte) (int, error) {
	if b.after--; b.after < 0 {
		return 0, errBroken
	}
	return len(p), nil
}

func TestWriteFails(t *testing.T) {
	disk := bytes.NewReader(bytes.Repeat([]byte{1}, 1<<18))
	for after := range 4 {
		if err := qcow2.Write(&broken{after}, disk, 1<<18, nil); !errors.Is(err, errBroken) {
			t.Errorf("after %d writes: %v", after, err)
		}
	}
	if err := qcow2.Write(io.Discard, disk, 1<<19, nil); !errors.Is(err, io.EOF) {
		t.Errorf("a torn disk: %v", err)
	}
	for _, size := range []int64{0, -512, 511, 513, qcow2.MaxBytes + 512} {
		if err := qcow2.Write(io.Discard, disk, size, nil); !errors.Is(err, qcow2.ErrSize) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}
