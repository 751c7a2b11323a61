package esp_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/toolshed-cloud/shed/agent/esp"
	"github.com/toolshed-cloud/shed/imagebuild/disk"
)

const (
	boot = "EFI/BOOT/BOOTX64.EFI"
	next = "EFI/BOOT/NEXTX64.EFI"
)

// image is a boot disk as the image builder lays it out.
func image(t testing.TB, files ...disk.File) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(disk.Size); err != nil {
		t.Fatal(err)
	}
	if err := disk.Write(f, files); err != nil {
		t.Fatal(err)
	}
	return f
}

func open(t testing.TB, d esp.Disk) *esp.Volume {
	t.Helper()
	v, err := esp.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func content(t testing.TB, v *esp.Volume, path string) []byte {
	t.Helper()
	r, err := v.Reader(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// blob is n bytes that no other seed gives.
func blob(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b) //nolint:errcheck // it never fails
	return b
}

func write(t testing.TB, v *esp.Volume, path string, b []byte) {
	t.Helper()
	if err := v.Write(path, int64(len(b)), bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
}

func TestAnImageIsReadAndWrittenBeside(t *testing.T) {
	old, new, more := blob(1, 3<<20+17), blob(2, 5<<20+4095), blob(3, 12345)
	f := image(t, disk.File{Path: boot, Data: old})
	v := open(t, f)
	if got := content(t, v, boot); !bytes.Equal(got, old) {
		t.Fatal("the image is read otherwise than it was laid out")
	}
	write(t, v, next, new)
	write(t, v, "SHED/1A2B3C4D.IMG", more)
	if err := v.Swap(boot, next); err != nil {
		t.Fatal(err)
	}
	again := open(t, f)
	for path, want := range map[string][]byte{boot: new, next: old, "SHED/1A2B3C4D.IMG": more} {
		if got := content(t, again, path); !bytes.Equal(got, want) {
			t.Errorf("%s holds %d other bytes than it should", path, len(got))
		}
		if n, err := again.Bytes(path); err != nil || n != int64(len(want)) {
			t.Errorf("%s has %d bytes, want %d: %v", path, n, len(want), err)
		}
	}
	if err := again.Remove(next); err != nil {
		t.Fatal(err)
	}
	if _, err := again.Extents(next); !errors.Is(err, esp.ErrNoFile) {
		t.Errorf("a file that was removed: %v", err)
	}
	fsck(t, f)
}

// fsck has a program that is not ours look at the file system.
func fsck(t testing.TB, f *os.File) {
	t.Helper()
	program, err := exec.LookPath("fsck.fat")
	if err != nil {
		t.Fatal("fsck.fat is missing: install dosfstools (make deps)")
	}
	const start = 1 << 20
	partition := filepath.Join(t.TempDir(), "esp")
	out, err := os.Create(partition)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.Copy(out, io.NewSectionReader(f, start, disk.Size-2*start)); err != nil {
		t.Fatal(err)
	}
	if output, err := exec.CommandContext(t.Context(), program, "-n", partition).CombinedOutput(); err != nil {
		t.Errorf("fsck.fat: %v\n%s", err, output)
	}
}

func TestWhatIsWrittenReplacesWhatWasThere(t *testing.T) {
	f := image(t, disk.File{Path: boot, Data: blob(1, 9000)})
	v := open(t, f)
	for seed := byte(2); seed < 12; seed++ {
		b := blob(seed, int(seed)*70000)
		write(t, v, next, b)
		if got := content(t, v, next); !bytes.Equal(got, b) {
			t.Fatalf("write %d is read otherwise", seed)
		}
	}
	fsck(t, f)
}

func TestAFileInPiecesIsReadWhole(t *testing.T) {
	f := image(t, disk.File{Path: boot, Data: blob(1, 4096)})
	v := open(t, f)
	write(t, v, "A.BIN", blob(2, 8192))
	write(t, v, "B.BIN", blob(3, 4096))
	write(t, v, "C.BIN", blob(4, 8192))
	for _, path := range []string{"A.BIN", "C.BIN"} {
		if err := v.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	want := blob(5, 20000)
	write(t, v, next, want)
	extents, err := v.Extents(next)
	if err != nil || len(extents) < 2 {
		t.Fatalf("%d extents, want some: %v", len(extents), err)
	}
	if got := content(t, v, next); !bytes.Equal(got, want) {
		t.Error("it is read otherwise than it was written")
	}
	fsck(t, f)
}

func TestNoRoomChangesNothing(t *testing.T) {
	old := blob(1, 100000)
	f := image(t, disk.File{Path: boot, Data: old})
	v := open(t, f)
	err := v.Write(next, disk.Size, bytes.NewReader(nil))
	if !errors.Is(err, esp.ErrNoRoom) {
		t.Fatalf("a file larger than the disk: %v", err)
	}
	if err := v.Write(next, 5000, bytes.NewReader(make([]byte, 4999))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("a source that ends too early: %v", err)
	}
	if _, err := v.Extents(next); !errors.Is(err, esp.ErrNoFile) {
		t.Errorf("half a file is there: %v", err)
	}
	if got := content(t, v, boot); !bytes.Equal(got, old) {
		t.Error("the other file changed")
	}
	for _, path := range []string{"lower.efi", "", "EFI", "EFI/BOOT/LONGERNAME.EFI", boot + "/X"} {
		if err := v.Write(path, 1, bytes.NewReader([]byte{1})); err == nil {
			t.Errorf("%q was written", path)
		}
	}
	fsck(t, f)
}

// A disk that forgets what was not synced, or keeps any of it.
type recorder struct {
	*os.File
	writes []record
}

type record struct {
	at   int64
	data []byte
	sync bool
}

func (r *recorder) WriteAt(b []byte, at int64) (int, error) {
	r.writes = append(r.writes, record{at: at, data: bytes.Clone(b)})
	return r.File.WriteAt(b, at)
}

func (r *recorder) Sync() error {
	r.writes = append(r.writes, record{sync: true})
	return nil
}

// cut applies all that was synced before the cut, and of the rest some.
func (r *recorder) cut(t *testing.T, onto *os.File, at int, keep func() bool) {
	t.Helper()
	synced := 0
	for i, w := range r.writes[:at] {
		if w.sync {
			synced = i
		}
	}
	for i, w := range r.writes[:at] {
		if w.sync || i > synced && !keep() {
			continue
		}
		if _, err := onto.WriteAt(w.data, w.at); err != nil {
			t.Fatal(err)
		}
	}
}

// Whenever the power is cut while the other slot is written and takes the place of
// the first, what the machine starts with is one of the two, whole, and the slot
// can be written again.
func TestPowerCutsLeaveAnImage(t *testing.T) {
	const size = 600_000
	old, before, new := blob(1, size), blob(2, size/2), blob(3, size)
	files := []disk.File{{Path: boot, Data: old}, {Path: next, Data: before}}
	r := &recorder{File: image(t, files...)}
	v := open(t, r)
	write(t, v, next, new)
	written := len(r.writes)
	if err := v.Swap(boot, next); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	swapped := 0
	for at := 0; at <= len(r.writes); at++ {
		for range 4 {
			f := image(t, files...)
			r.cut(t, f, at, func() bool { return random.IntN(2) == 0 })
			v := open(t, f)
			got := content(t, v, boot)
			switch {
			case bytes.Equal(got, old):
			case bytes.Equal(got, new) && at > written:
				swapped++
			default:
				t.Fatalf("cut at write %d: the machine starts with %d bytes that are neither image", at, len(got))
			}
			if b, err := v.Extents(next); err == nil {
				got := content(t, v, next)
				if !bytes.Equal(got, before) && !bytes.Equal(got, new) && !bytes.Equal(got, old) {
					t.Fatalf("cut at write %d: the other slot has %d extents of nothing whole", at, len(b))
				}
			} else if !errors.Is(err, esp.ErrNoFile) {
				t.Fatalf("cut at write %d: the other slot is half there: %v", at, err)
			}
			write(t, v, next, new)
		}
	}
	if swapped == 0 {
		t.Error("no cut came after the swap")
	}
}

func TestDisksOfOthersAreRefused(t *testing.T) {
	for name, spoil := range map[string]func([]byte){
		"no table":           func(b []byte) { b[512] = 'X' },
		"entries elsewhere":  func(b []byte) { b[512+72] = 0xff; b[512+79] = 0xff },
		"entries of others":  func(b []byte) { b[512+84] = 64 },
		"no system":          func(b []byte) { b[1024] ^= 1 },
		"backwards":          func(b []byte) { b[1024+40], b[1024+41], b[1024+42] = 0, 0, 0 },
		"no fat":             func(b []byte) { b[1<<20+510] = 0 },
		"no clusters":        func(b []byte) { b[1<<20+13] = 0 },
		"three per cluster":  func(b []byte) { b[1<<20+13] = 3 },
		"one table":          func(b []byte) { b[1<<20+16] = 1 },
		"longer than itself": func(b []byte) { b[1<<20+35] = 0xff },
		"short tables":       func(b []byte) { b[1<<20+36], b[1<<20+37] = 1, 0 },
		"root outside":       func(b []byte) { b[1<<20+47] = 0x0f },
	} {
		f := image(t, disk.File{Path: boot, Data: blob(1, 100)})
		b := make([]byte, 2<<20)
		if _, err := f.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		spoil(b)
		if _, err := f.WriteAt(b, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := esp.Open(f); !errors.Is(err, esp.ErrLayout) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// memory is a small disk for the fuzzer.
type memory []byte

func (m memory) ReadAt(b []byte, at int64) (int, error) {
	if at < 0 || at+int64(len(b)) > int64(len(m)) {
		return 0, io.ErrUnexpectedEOF
	}
	return copy(b, m[at:]), nil
}

func (m memory) WriteAt(b []byte, at int64) (int, error) {
	if at < 0 || at+int64(len(b)) > int64(len(m)) {
		return 0, io.ErrShortWrite
	}
	return copy(m[at:], b), nil
}

func (memory) Sync() error { return nil }

// FuzzVolume spoils what the first clusters and tables say.
func FuzzVolume(f *testing.F) {
	whole := image(f, disk.File{Path: boot, Data: blob(1, 20000)}, disk.File{Path: next, Data: blob(2, 9000)})
	// The tables and a few clusters behind them are all that is looked at.
	start := make(memory, 3<<20)
	if _, err := whole.ReadAt(start, 0); err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(1<<20+44), []byte{9})
	f.Add(uint32(1<<20+32*512+8), []byte{2, 0, 0, 0})
	f.Add(uint32(1024), []byte{0x28})
	f.Fuzz(func(_ *testing.T, at uint32, with []byte) {
		m := bytes.Clone(start)
		copy(m[int(at)%len(m):], with)
		v, err := esp.Open(memory(m))
		if err != nil {
			return
		}
		for _, path := range []string{boot, next} {
			if r, err := v.Reader(path); err == nil {
				io.Copy(io.Discard, io.LimitReader(r, 1<<20)) //nolint:errcheck // whatever it says
			}
		}
		v.Write(next, 3000, bytes.NewReader(make([]byte, 3000))) //nolint:errcheck // whatever it says
		v.Swap(boot, next)                                       //nolint:errcheck // as above
	})
}
