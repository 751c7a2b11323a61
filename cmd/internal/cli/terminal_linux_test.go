package cli

import (
	"bytes"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// What a machine prints does not command the terminal it is read on, in
// whatever pieces it arrives; a file gets it as it is.
func TestForPeople(t *testing.T) {
	const said = "tab\tline\r\nz\u00fcrich \u20ac\x1b]52;c;AAAA\x07 \u009b2J \x7f"
	const shown = "tab\tline\r\nz\u00fcrich \u20ac?]52;c;AAAA? \xc2?2J ?"
	for _, piece := range []int{1, 2, len(said)} {
		var out bytes.Buffer
		h := &harmless{w: &out}
		for rest := []byte(said); len(rest) > 0; rest = rest[min(piece, len(rest)):] {
			if _, err := h.Write(rest[:min(piece, len(rest))]); err != nil {
				t.Fatal(err)
			}
		}
		if out.String() != shown {
			t.Errorf("in pieces of %d: %q, want %q", piece, out.String(), shown)
		}
	}
	var file bytes.Buffer
	if ForPeople(&file) != &file {
		t.Error("a file does not get it as it is")
	}
	if _, ok := ForPeople(terminal(t)).(*harmless); !ok {
		t.Error("a terminal gets it as it is")
	}
}

// terminal opens the terminal's side of a new pair.
func terminal(t *testing.T) *os.File {
	t.Helper()
	main, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("this system has no terminals: ", err)
	}
	t.Cleanup(func() { main.Close() })
	if err := unix.IoctlSetPointerInt(int(main.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(main.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
