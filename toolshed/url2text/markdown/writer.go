package markdown

import "strings"

// How far apart blocks stand, in line ends.
const (
	line      = 1
	paragraph = 2
)

// writer writes lines, each after what every line of its block begins with.
type writer struct {
	out []byte
	// prefix begins each line; pending takes its place on the next one, where
	// that is an item's first.
	prefix, pending string
	// apart is how many line ends come before the next word, within those lines
	// that gapPrefix begins; space and breaks that a space, or a hard line break,
	// does.
	apart         int
	gapPrefix     string
	space, breaks bool
	// marks are those around the next word, ending those whose end is due.
	marks, ending []mark
	// flat is in what has to be one line, lists how many lists are around.
	flat, inLink, inTable bool
	lists                 int
}

// gap keeps what comes next apart from what is there.
func (w *writer) gap(apart int) {
	if w.flat {
		w.space = true
		return
	}
	w.space, w.breaks = false, false
	if w.pending != "" {
		// It is the first of its item, beside the marker.
		return
	}
	if w.apart == 0 || len(w.prefix) < len(w.gapPrefix) {
		w.gapPrefix = w.prefix
	}
	w.apart = max(w.apart, apart)
}

// indent has lines begin with more: the next one with first, those after it
// with rest. What it answers ends that.
func (w *writer) indent(first, rest string) (end func()) {
	before, was := w.prefix, w.pending
	begins := was
	if begins == "" {
		begins = before
	}
	w.pending = begins + first
	w.prefix += rest
	return func() {
		if w.pending == begins+first {
			// Nothing was in it.
			w.pending = was
		}
		w.prefix = before
	}
}

// start comes before each word and writes what is due: ends of marks, line ends,
// a space, beginnings of marks. It reports whether the word begins a line.
func (w *writer) start(next rune) (begins bool) {
	newLine := w.apart > 0 || w.pending != "" || w.breaks
	if !newLine && !w.space {
		w.resume()
	}
	w.endMarks(next, newLine || w.space)
	switch {
	case len(w.out) == 0:
		begins = true
		w.beginLine()
	case newLine:
		begins = true
		w.breakMarks()
		w.endLine()
	case w.space:
		w.out = append(w.out, ' ')
	}
	w.apart, w.space, w.breaks = 0, false, false
	w.beginMarks(next)
	return begins
}

// endLine ends a line, and writes those that keep blocks apart.
func (w *writer) endLine() {
	if w.apart == 0 && w.breaks {
		w.out = append(w.out, '\\')
	}
	for range w.apart - 1 {
		w.out = append(w.out, '\n')
		w.out = append(w.out, strings.TrimRight(w.gapPrefix, " ")...)
	}
	w.out = append(w.out, '\n')
	w.beginLine()
}

func (w *writer) beginLine() {
	if w.pending != "" {
		w.out = append(w.out, w.pending...)
		w.pending = ""
		return
	}
	w.out = append(w.out, w.prefix...)
}

// raw writes a piece of Markdown.
func (w *writer) raw(s string) {
	if s == "" {
		w.start('\n')
		return
	}
	w.start(rune(s[0]))
	w.out = append(w.out, s...)
}
