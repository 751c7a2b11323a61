package boot

import (
	"bytes"
	"errors"
	"io/fs"
	"testing"
	"testing/fstest"
)

func cpuinfo(flags string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte("processor\t: 0\nmodel name\t: tdx_guest\nflags\t\t: " + flags + "\nbugs\t\t: tdx_guest\n")}
}

func TestGuestDriver(t *testing.T) {
	for name, c := range map[string]struct {
		root fstest.MapFS
		want string
	}{
		"none":         {fstest.MapFS{"proc/cpuinfo": cpuinfo("fpu aes")}, ""},
		"snp":          {fstest.MapFS{"sys/devices/platform/sev-guest/uevent": {}, "proc/cpuinfo": cpuinfo("fpu")}, "sev-guest"},
		"tdx":          {fstest.MapFS{"proc/cpuinfo": cpuinfo("fpu tdx_guest aes")}, "tdx-guest"},
		"another flag": {fstest.MapFS{"proc/cpuinfo": cpuinfo("tdx_guest_not")}, ""},
	} {
		if got, err := guestDriver(c.root); got != c.want || err != nil {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
	}
	if _, err := guestDriver(fstest.MapFS{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without /proc: %v", err)
	}
}

func TestReadEventLog(t *testing.T) {
	const path = "sys/kernel/security/tpm0/binary_bios_measurements"
	root := fstest.MapFS{path: {Data: []byte("log")}}
	if b, err := readEventLog(root, 3); err != nil || !bytes.Equal(b, []byte("log")) {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := readEventLog(root, 2); !errors.Is(err, ErrLongLog) {
		t.Errorf("too long: %v", err)
	}
	if _, err := readEventLog(fstest.MapFS{}, 2); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
}
