package initrd_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/toolshed-cloud/shed/imagebuild/initrd"
)

func small(tb testing.TB) []byte {
	tb.Helper()
	a := initrd.New()
	if err := errors.Join(a.File("bin/x", 0o755, []byte("program")), a.CharDevice("dev/null", 0o666, 1, 3)); err != nil {
		tb.Fatal(err)
	}
	b, err := a.Bytes()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestUnpack(t *testing.T) {
	b := small(t)
	entries, err := initrd.Unpack(bytes.NewReader(append(b, make([]byte, 512)...)))
	if err != nil || len(entries) != 4 || entries["bin/x"] == "" || entries["bin/x"] == entries["bin"] {
		t.Errorf("entries %v, %v", entries, err)
	}
	for name, b := range map[string][]byte{"nothing": nil, "zeros": make([]byte, 64), "no archive": []byte("text"), "half": b[:len(b)/2]} {
		if _, err := initrd.Unpack(bytes.NewReader(b)); !errors.Is(err, initrd.ErrUnpack) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(small(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := initrd.Unpack(bytes.NewReader(b)); err != nil && !errors.Is(err, initrd.ErrUnpack) {
			t.Errorf("error %v of no known kind", err)
		}
	})
}
