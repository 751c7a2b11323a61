package lock_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/imagebuild/lock"
)

func sample() *lock.Lock {
	file := func(path string) []lock.File { return []lock.File{{Path: path, SHA256: attest.Sum([]byte(path))}} }
	return &lock.Lock{Schema: 1, Go: "go1.26.8", Source: attest.Sum([]byte("source")), Architectures: []lock.Architecture{{
		Name: "amd64", Packages: []lock.Package{
			{Name: "linux-image", Version: "2:6.12.1-1~deb12u1", Architecture: "amd64", Suite: "bookworm", Use: lock.Kernel, SHA256: attest.Sum([]byte("k")), Bytes: 3, Files: file("boot/vmlinuz")},
			{Name: "ovmf", Version: "2025.02-8+deb13u1", Architecture: "all", Suite: "trixie", Use: lock.Firmware, SHA256: attest.Sum([]byte("f")), Bytes: 2, Files: file("usr/share/code.fd")},
			{Name: "tool", Version: "1", Architecture: "amd64", Suite: "bookworm", Use: lock.Files, SHA256: attest.Sum([]byte("t")), Bytes: 1, Files: file("sbin/tool")},
		},
	}}}
}

func TestLockComesBack(t *testing.T) {
	for _, source := range []attest.Digest{{}, attest.Sum([]byte("x"))} {
		want := sample()
		want.Source = source
		b, err := want.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := lock.Parse(b)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, %v", got, err)
		}
		if strings.Contains(string(b), "source") == source.IsZero() {
			t.Errorf("source %v is written as %s", source, b)
		}
		if a, err := got.For("amd64"); err != nil || a.Of(lock.Kernel).Name != "linux-image" || a.Of("other") != nil {
			t.Errorf("%+v, %v", a, err)
		}
		if _, err := got.For("arm64"); !errors.Is(err, lock.ErrLock) {
			t.Errorf("arm64: %v", err)
		}
	}
}

func TestLockRefuses(t *testing.T) {
	for want, change := range map[string]func(l *lock.Lock, p *lock.Package){
		"schema is 2":                func(l *lock.Lock, _ *lock.Package) { l.Schema = 2 },
		`go "1.26.8"`:                func(l *lock.Lock, _ *lock.Package) { l.Go = "1.26.8" },
		`go "go1.26.8 -toolexec=x"`:  func(l *lock.Lock, _ *lock.Package) { l.Go = "go1.26.8 -toolexec=x" },
		"architectures has 0":        func(l *lock.Lock, _ *lock.Package) { l.Architectures = nil },
		"repeated":                   func(l *lock.Lock, _ *lock.Package) { l.Architectures = append(l.Architectures, l.Architectures[0]) },
		"neither amd64 nor arm64":    func(l *lock.Lock, _ *lock.Package) { l.Architectures[0].Name = "mips" },
		"packages[0].name":           func(_ *lock.Lock, p *lock.Package) { p.Name = "--option" },
		"packages[0].version":        func(_ *lock.Lock, p *lock.Package) { p.Version = "1/../2" },
		"packages[0].architecture":   func(_ *lock.Lock, p *lock.Package) { p.Architecture = "arm64" },
		"packages[0].suite":          func(_ *lock.Lock, p *lock.Package) { p.Suite = "x\ndeb http://example.org y main" },
		"packages[0].use":            func(_ *lock.Lock, p *lock.Package) { p.Use = "other" },
		"packages has 0 kernels":     func(_ *lock.Lock, p *lock.Package) { p.Use = lock.Files },
		"packages[0].sha256":         func(_ *lock.Lock, p *lock.Package) { p.SHA256 = attest.Digest{} },
		"packages[0].bytes":          func(_ *lock.Lock, p *lock.Package) { p.Bytes = 1 << 40 },
		"packages[0].files has 0":    func(_ *lock.Lock, p *lock.Package) { p.Files = nil },
		"packages[0].files[0].path":  func(_ *lock.Lock, p *lock.Package) { p.Files[0].Path = "../etc/passwd" },
		"files[0].path \"/etc\"":     func(_ *lock.Lock, p *lock.Package) { p.Files[0].Path = "/etc" },
		"files[0].path \"lib//x\"":   func(_ *lock.Lock, p *lock.Package) { p.Files[0].Path = "lib//x" },
		"files[0].path \"a/../../x":  func(_ *lock.Lock, p *lock.Package) { p.Files[0].Path = "a/../../x" },
		"packages[0].files[0].sha25": func(_ *lock.Lock, p *lock.Package) { p.Files[0].SHA256 = attest.Digest{} },
		"files[1].path":              func(_ *lock.Lock, p *lock.Package) { p.Files = append(p.Files, p.Files[0]) },
		"packages[2].name":           func(l *lock.Lock, _ *lock.Package) { l.Architectures[0].Packages[2].Name = "a-tool" },
	} {
		l := sample()
		change(l, &l.Architectures[0].Packages[0])
		if _, err := l.Encode(); !errors.Is(err, lock.ErrLock) || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// TestOneSpelling wants no two files that are the same lock.
func TestOneSpelling(t *testing.T) {
	b, err := sample().Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, other := range map[string][]byte{
		"another space": bytes.Replace(b, []byte(": 1,"), []byte(":  1,"), 1),
		"a field more":  bytes.Replace(b, []byte(`"schema"`), []byte(`"note": "", "schema"`), 1),
		"a tail":        append(bytes.Clone(b), '{'),
		"no newline":    bytes.TrimSpace(b),
		"twice":         bytes.Replace(b, []byte(`"schema": 1`), []byte(`"schema": 1, "schema": 1`), 1),
		"too large":     append(bytes.Clone(b), make([]byte, lock.MaxBytes)...),
		"null":          []byte("null"),
	} {
		if _, err := lock.Parse(other); !errors.Is(err, lock.ErrLock) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMismatchNamesBoth(t *testing.T) {
	one, other := attest.Sum([]byte("one")), attest.Sum([]byte("other"))
	if err := lock.Check("x", one, one); err != nil {
		t.Error(err)
	}
	err := lock.Check("some.deb", one, other)
	for _, part := range []string{"some.deb", one.String(), other.String()} {
		if !strings.Contains(fmt.Sprint(err), part) {
			t.Errorf("%v does not name %s", err, part)
		}
	}
}

func FuzzParse(f *testing.F) {
	b, err := sample().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	real, err := os.ReadFile("../image.lock")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(real)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := lock.Parse(b)
		if err != nil {
			return
		}
		again, err := l.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("it is encoded as %s, %v", again, err)
		}
	})
}
