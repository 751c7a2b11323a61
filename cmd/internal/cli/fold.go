package cli

import (
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// NarrowWidth is how many columns the narrowest terminal has that people use.
const NarrowWidth = 80

// Width is how many columns w has where it is a terminal, NarrowWidth where that
// does not say; 0 elsewhere, where lines have no end.
func Width(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	columns, _, err := term.GetSize(int(f.Fd()))
	switch {
	case err != nil:
		return 0
	case columns == 0:
		return NarrowWidth
	}
	return columns
}

// Fold breaks text into lines of at most width columns, each of which begins at
// column indent, as the first one does already. A word that does not fit stays
// whole; with width 0 all of it does.
func Fold(text string, indent, width int) string {
	if width == 0 {
		return text
	}
	var b strings.Builder
	column := indent
	for word := range strings.FieldsSeq(text) {
		switch {
		case column == indent:
		case column+1+len(word) > width:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			column = indent
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}
