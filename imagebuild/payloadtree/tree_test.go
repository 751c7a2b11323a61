package payloadtree_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/imagebuild/payloadtree"
)

func must(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// write makes files, of which those that begin with #! or are in bin may be
// executed.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		if target, ok := strings.CutPrefix(text, "-> "); ok {
			must(t, os.Symlink(target, path))
			continue
		}
		mode := os.FileMode(0o644)
		if strings.HasPrefix(text, "#!") || strings.Contains(name, "bin/") {
			mode = 0o755
		}
		must(t, os.WriteFile(path, []byte(text), mode))
	}
}

func tree(t *testing.T, dir string) *payloadtree.Tree {
	t.Helper()
	tr, err := payloadtree.Read(dir)
	must(t, err)
	return tr
}

// Whoever owns the files, whenever they were made, whatever their permissions but
// the right to execute, and in whatever order: the bytes are the same.
func TestSameFilesSameBytes(t *testing.T) {
	files := map[string]string{"bin/server": "program", "usr/share/a": strings.Repeat("text ", 4000), "usr/share/b": "x", "lib": "-> usr/lib", "usr/lib/deep/er/c": "y", "empty": ""}
	one, two := t.TempDir(), t.TempDir()
	write(t, one, files)
	for _, name := range []string{"usr/lib/deep/er/c", "empty", "lib", "usr/share/b", "usr/share/a", "bin/server"} {
		write(t, two, map[string]string{name: files[name]})
	}
	must(t, filepath.WalkDir(two, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.Type()&os.ModeSymlink != 0 {
			return err
		}
		info, err := d.Info()
		must(t, err)
		if os.Getuid() == 0 {
			must(t, os.Chown(path, 4711, 4711))
		}
		return errors.Join(os.Chmod(path, info.Mode()&^0o077), os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0)))
	}))
	var tars, images [][]byte
	for _, dir := range []string{one, two} {
		tr := tree(t, dir)
		must(t, tr.Put("etc/resolv.conf", []byte("nameserver 127.0.0.1\n")), tr.Ensure("tmp", 0o777|os.ModeSticky))
		b, err := tr.Tar()
		must(t, err)
		again, err := payloadtree.Untar(b)
		must(t, err)
		repacked, err := again.Tar()
		must(t, err)
		if !bytes.Equal(repacked, b) {
			t.Error("what was unpacked is packed to other bytes")
		}
		e, err := tr.Erofs()
		must(t, err)
		unpackedImage, err := again.Erofs()
		must(t, err)
		if !bytes.Equal(unpackedImage, e) {
			t.Error("what was unpacked is another file system")
		}
		tars, images = append(tars, b), append(images, e)
	}
	if !bytes.Equal(tars[0], tars[1]) {
		t.Error("two archives of the same files differ")
	}
	if !bytes.Equal(images[0], images[1]) {
		t.Error("two file systems of the same files differ")
	}
	unpacked := filepath.Join(t.TempDir(), "unpacked")
	if out, err := exec.Command("fsck.erofs", "--extract="+unpacked, write1(t, images[0])).CombinedOutput(); err != nil {
		t.Fatalf("fsck.erofs: %v\n%s", err, out)
	}
	tr := tree(t, unpacked)
	must(t, tr.Ensure("tmp", 0o777|os.ModeSticky))
	if b, err := tr.Erofs(); err != nil || !bytes.Equal(b, images[0]) {
		t.Errorf("what fsck.erofs unpacked is another file system, error %v", err)
	}
}

// A file that lies in the root itself adds no name but its own.
func TestRootIsNoName(t *testing.T) {
	tr := payloadtree.New()
	must(t, tr.Executable("server", []byte("x")))
	if names := tr.Names(); len(names) != 1 || names[0] != "server" {
		t.Errorf("names %q", names)
	}
	b, err := tr.Tar()
	must(t, err)
	_, err = payloadtree.Untar(b)
	must(t, err)
	_, err = tr.Erofs()
	must(t, err)
}

// A payload of one large program, as the toolshed is.
func BenchmarkErofs(b *testing.B) {
	tr := payloadtree.New()
	must(b, tr.Executable("server", make([]byte, 38<<20)), tr.Ensure("tmp", 0o777|os.ModeSticky), tr.Put("etc/resolv.conf", []byte("nameserver 127.0.0.1\n")))
	b.ReportAllocs()
	for b.Loop() {
		image, err := tr.Erofs()
		must(b, err)
		b.SetBytes(int64(len(image)))
	}
}

func write1(t *testing.T, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(path, b, 0o600))
	return path
}

func TestReadRefuses(t *testing.T) {
	dir := t.TempDir()
	must(t, syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	if _, err := payloadtree.Read(dir); !errors.Is(err, payloadtree.ErrTree) || !strings.Contains(fmt.Sprint(err), "pipe") {
		t.Errorf("a pipe: %v", err)
	}
	if _, err := payloadtree.Read(filepath.Join(dir, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	if _, err := payloadtree.Read(write1(t, nil)); !errors.Is(err, payloadtree.ErrTree) {
		t.Errorf("a file: %v", err)
	}
	dir = t.TempDir()
	write(t, dir, map[string]string{"proc": "a file", "etc/resolv.conf/x": ""})
	tr := tree(t, dir)
	if err := tr.Ensure("proc", 0o555); !errors.Is(err, payloadtree.ErrTree) {
		t.Errorf("a mount point that is a file: %v", err)
	}
	if err := tr.Put("etc/resolv.conf", nil); !errors.Is(err, payloadtree.ErrTree) {
		t.Errorf("a file that is a directory: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(dir, "proc"), []byte("longer than it was"), 0o600))
	if _, err := tr.Tar(); !errors.Is(err, payloadtree.ErrTree) {
		t.Errorf("a file that changed: %v", err)
	}
	if _, err := tr.Erofs(); !errors.Is(err, payloadtree.ErrTree) || !strings.Contains(fmt.Sprint(err), "proc") {
		t.Errorf("a file that changed: %v", err)
	}
	must(t, os.Remove(filepath.Join(dir, "proc")))
	if _, err := tr.Erofs(); !errors.Is(err, os.ErrNotExist) || errors.Is(err, payloadtree.ErrTree) {
		t.Errorf("a file that is gone: %v", err)
	}
}

// Links are followed as in the payload's root, and never out of it.
func TestResolve(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"usr/lib/a.so": "a", "lib": "-> usr/lib", "abs": "-> /usr/lib/a.so", "up": "-> ../../../../usr/lib/a.so", "loop": "-> loop",
		"out": "-> /etc/hostname", "usr/share/abs": "-> /usr/lib/a.so", "usr/back": "-> ../lib/a.so",
	})
	tr := tree(t, dir)
	for name, want := range map[string]string{
		"/lib/a.so": "usr/lib/a.so", "abs": "usr/lib/a.so", "/up": "usr/lib/a.so", "/usr/share/abs": "usr/lib/a.so", "usr/back": "usr/lib/a.so", "/usr//lib/./../lib/a.so": "usr/lib/a.so",
		"/loop": "", "/out": "", "/usr/lib/a.so/x": "", "/absent": "", "/": "",
	} {
		if got, ok := tr.Resolve(name); got != want || ok != (want != "") {
			t.Errorf("%s: %q, %v", name, got, ok)
		}
	}
}

func FuzzUntar(f *testing.F) {
	tr := payloadtree.New()
	if err := errors.Join(tr.Executable("bin/server", []byte("x")), tr.Ensure("tmp", 0o777|os.ModeSticky)); err != nil {
		f.Fatal(err)
	}
	b, err := tr.Tar()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		tr, err := payloadtree.Untar(b)
		if err != nil {
			if !errors.Is(err, payloadtree.ErrTree) {
				t.Fatalf("error %v", err)
			}
			return
		}
		for _, name := range tr.Names() {
			if strings.HasPrefix(name, "/") || strings.HasPrefix(name, "../") {
				t.Fatalf("name %q", name)
			}
		}
	})
}

// A file with a hole is none of ours: a small archive could else take any memory.
func TestHolesAreRefused(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	// The writer makes no such records: they are named otherwise at first.
	h := &tar.Header{Name: "hole", Mode: 0o644, Size: 512, Typeflag: tar.TypeReg, Format: tar.FormatPAX, PAXRecords: map[string]string{
		"GNX.sparse.major": "1", "GNX.sparse.minor": "0", "GNX.sparse.name": "hole", "GNX.sparse.realsize": strconv.Itoa(1 << 30),
	}}
	sparse := append([]byte("0\n"), make([]byte, 510)...)
	if err := w.WriteHeader(h); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(sparse); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if tree, err := payloadtree.Untar(bytes.ReplaceAll(b.Bytes(), []byte("GNX."), []byte("GNU."))); !errors.Is(err, payloadtree.ErrTree) {
		t.Errorf("a tree of %d bytes, %v", tree.Bytes, err)
	}
}
