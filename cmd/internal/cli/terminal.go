package cli

import (
	"io"
	"os"

	"golang.org/x/term"
)

// ForPeople is where text goes that somebody else wrote, such as a machine:
// where w is a terminal, nothing in it commands the terminal (ECMA-48), and
// elsewhere it passes as it is.
func ForPeople(w io.Writer) io.Writer {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return &harmless{w: w}
	}
	return w
}

// harmless puts a question mark in the place of every control character but
// tabs and line breaks. Those of C1 have two bytes in UTF-8, the first of them
// 0xc2.
type harmless struct {
	w    io.Writer
	last byte
}

func (h *harmless) Write(b []byte) (int, error) {
	clean := make([]byte, len(b))
	for i, c := range b {
		clean[i] = c
		c0 := c < 0x20 && c != '\t' && c != '\n' && c != '\r'
		c1 := h.last == 0xc2 && c >= 0x80 && c < 0xa0
		if c0 || c1 || c == 0x7f {
			clean[i] = '?'
		}
		h.last = c
	}
	return h.w.Write(clean)
}
