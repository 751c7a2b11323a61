package markdown

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// mark is markup around a part of a line. Its beginning is written with the
// first word in it, and so never before a space, and its end once it is known
// what follows.
type mark struct {
	begin, end string
	written    bool
	// at is where its beginning stands.
	at int
}

// emphasis reports whether a mark counts by what stands beside it (CommonMark,
// section 6.2).
func (m mark) emphasis() bool { return m.begin == m.end }

// marked writes what is in n between marks; nothing where nothing is in it.
func (w *writer) marked(n *html.Node, begin, end string) {
	for _, m := range w.marks {
		if m.begin == begin {
			// Emphasis in the same emphasis would end it.
			w.children(n)
			return
		}
	}
	w.marks = append(w.marks, mark{begin: begin, end: end})
	w.children(n)
	last := w.marks[len(w.marks)-1]
	w.marks = w.marks[:len(w.marks)-1]
	if last.written {
		w.ending = append(w.ending, last)
	}
}

// endMarks writes the ends that are due. Emphasis that would not end there,
// between punctuation and a letter, is taken back.
func (w *writer) endMarks(next rune, apart bool) {
	for i, m := range w.ending {
		last, _ := utf8.DecodeLastRune(w.out)
		if !m.emphasis() || !unicode.IsSpace(last) && (apart || !isPunct(last) || !isLetter(next)) {
			w.out = append(w.out, m.end...)
			continue
		}
		w.out = append(w.out[:m.at], w.out[m.at+len(m.begin):]...)
		for j := range w.ending[i+1:] {
			w.ending[i+1+j].moved(m)
		}
		for j := range w.marks {
			w.marks[j].moved(m)
		}
	}
	w.ending = w.ending[:0]
}

// isPunct and isLetter are as emphasis has it: symbols are punctuation, and
// whatever is neither that nor a space is a letter (CommonMark, section 2.1).
func isPunct(r rune) bool { return unicode.IsPunct(r) || unicode.IsSymbol(r) }

func isLetter(r rune) bool {
	return r != utf8.RuneError && !isPunct(r) && !unicode.IsSpace(r)
}

// moved follows a beginning that was taken back.
func (m *mark) moved(gone mark) {
	if m.at > gone.at {
		m.at -= len(gone.begin)
	}
}

// resume has emphasis that begins where the same has just ended go on instead.
func (w *writer) resume() {
	for i := range w.marks {
		n := len(w.ending) - 1
		if n < 0 {
			return
		}
		if m := &w.marks[i]; !m.written && m.emphasis() && w.ending[n].begin == m.begin {
			*m = w.ending[n]
			w.ending = w.ending[:n]
		}
	}
}

// beginMarks writes the beginnings that are due. Emphasis that would not begin
// there, in a word or beside punctuation, waits for a word where it does; a mark
// around one that has begun waits for its end.
func (w *writer) beginMarks(next rune) {
	before, _ := utf8.DecodeLastRune(w.out)
	inWord := isLetter(before)
	around := false
	for i := range w.marks {
		m := &w.marks[i]
		if m.written {
			around = around || m.emphasis()
			continue
		}
		if m.emphasis() && (unicode.IsSpace(next) || inWord && around || isPunct(next) && !w.mayBegin(before)) || begun(w.marks[i+1:]) {
			continue
		}
		m.at, m.written = len(w.out), true
		w.out = append(w.out, m.begin...)
	}
}

// mayBegin reports whether emphasis may begin with punctuation after this.
func (w *writer) mayBegin(before rune) bool {
	return len(w.out) == 0 || unicode.IsSpace(before)
}

func begun(marks []mark) bool {
	for _, m := range marks {
		if m.written {
			return true
		}
	}
	return false
}

// breakMarks ends what may not span a line's end; the next word begins it again.
func (w *writer) breakMarks() {
	for i := len(w.marks) - 1; i >= 0; i-- {
		if w.marks[i].written {
			w.out = append(w.out, w.marks[i].end...)
			w.marks[i].written = false
		}
	}
}

func (w *writer) link(n *html.Node) {
	address := attribute(n, "href")
	if address == "" || w.inLink {
		w.children(n)
		return
	}
	w.inLink = true
	w.marked(n, "[", "]("+destination(address)+title(n)+")")
	w.inLink = false
}

func (w *writer) image(n *html.Node) {
	address := attribute(n, "src")
	if address == "" {
		w.text(attribute(n, "alt"))
		return
	}
	alt := strings.Join(strings.Fields(attribute(n, "alt")), " ")
	w.raw("![" + inLabel.Replace(alt) + "](" + destination(address) + title(n) + ")")
}

// What an address, a title and a picture's text would be markup with.
var (
	inAddress = strings.NewReplacer("<", "%3C", ">", "%3E", `\`, `\\`, "\n", "%0A", "\r", "%0D", "\t", "%09")
	inTitle   = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "&", "&amp;", "|", `\|`)
	inLabel   = strings.NewReplacer(`\`, `\\`, "[", `\[`, "]", `\]`, "`", "\\`", "<", `\<`, "&", "&amp;", "*", `\*`, "_", `\_`, "|", `\|`)
)

// destination is an address as a link has it (CommonMark, section 6.3).
func destination(address string) string {
	address = strings.TrimSpace(address)
	if strings.ContainsAny(address, " ()") {
		return "<" + inAddress.Replace(address) + ">"
	}
	return inAddress.Replace(address)
}

func title(n *html.Node) string {
	text := strings.Join(strings.Fields(attribute(n, "title")), " ")
	if text == "" {
		return ""
	}
	return ` "` + inTitle.Replace(text) + `"`
}

// code writes a code span: between more backticks than any run in it has.
func (w *writer) code(n *html.Node) {
	if n.FirstChild != nil && n.FirstChild.NextSibling == nil && n.FirstChild.DataAtom == atom.Pre {
		w.preformatted(n.FirstChild)
		return
	}
	text := strings.Join(strings.Fields(rawText(n)), " ")
	if text == "" {
		return
	}
	fence := "`"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	if text[0] == '`' || text[len(text)-1] == '`' {
		text = " " + text + " "
	}
	if w.inTable {
		text = strings.ReplaceAll(text, "|", `\|`)
	}
	w.raw(fence + text + fence)
}

// text writes words, with one space where there was any between them.
func (w *writer) text(s string) {
	for len(s) > 0 {
		blank := len(s) - len(strings.TrimLeft(s, " \t\n\r\f"))
		if blank > 0 {
			w.space = true
			s = s[blank:]
			continue
		}
		end := strings.IndexAny(s, " \t\n\r\f")
		if end < 0 {
			end = len(s)
		}
		w.word(s[:end])
		s = s[end:]
	}
}

// word writes a word, escaped.
func (w *writer) word(s string) {
	first, _ := utf8.DecodeRuneInString(s)
	begins := w.start(first)
	if begins {
		s = w.escapeBegin(s)
	}
	w.escape(s)
}

// escapeBegin writes what would be a block's markup at the beginning of a line,
// escaped, and answers the rest.
func (w *writer) escapeBegin(s string) string {
	digits := len(s) - len(strings.TrimLeft(s, "0123456789"))
	switch {
	case strings.HasPrefix(s, "#"), strings.HasPrefix(s, "+"), strings.HasPrefix(s, "-"), strings.HasPrefix(s, "="), strings.HasPrefix(s, ">"),
		strings.HasPrefix(s, "~~~"), strings.HasPrefix(s, ":"):
		w.out = append(w.out, '\\', s[0])
		return s[1:]
	case digits > 0 && digits < 10 && digits < len(s) && (s[digits] == '.' || s[digits] == ')'):
		w.out = append(w.out, s[:digits]...)
		w.out = append(w.out, '\\', s[digits])
		return s[digits+1:]
	}
	return s
}

// escape writes a word whose characters mean nothing.
func (w *writer) escape(s string) {
	begin := 0
	for i := range len(s) {
		if !w.special(s, i) {
			continue
		}
		w.out = append(w.out, s[begin:i]...)
		w.out = append(w.out, '\\')
		begin = i
	}
	w.out = append(w.out, s[begin:]...)
}

// special reports whether a byte would be markup. An underscore within a word is
// none, and an ampersand only where a name or a number follows.
func (w *writer) special(s string, i int) bool {
	switch s[i] {
	case '\\', '`', '*', '[', ']', '<':
		return true
	case '_':
		return i == 0 || i == len(s)-1 || !alphanumeric(s[i-1]) || !alphanumeric(s[i+1])
	case '~':
		return true
	case '&':
		return i+1 < len(s) && (alphanumeric(s[i+1]) || s[i+1] == '#')
	case '!':
		return i+1 == len(s)
	case '|':
		return w.inTable
	}
	return false
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c >= 0x80
}

// hardBreak ends a line within a block.
func (w *writer) hardBreak() {
	if w.flat {
		w.space = true
		return
	}
	if w.apart > 0 || len(w.out) == 0 || w.pending != "" {
		// It begins or ends a block, and breaks nothing.
		return
	}
	w.breaks = true
}
