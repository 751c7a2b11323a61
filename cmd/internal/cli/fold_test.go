package cli

import (
	"strings"
	"testing"
)

// Folded text keeps its words, and its lines fit where they can.
func TestFold(t *testing.T) {
	text := strings.Repeat("some words of a reason ", 12)
	for _, indent := range []int{0, 4, 33, 79} {
		folded := strings.Repeat(" ", indent) + Fold(text, indent, NarrowWidth)
		for line := range strings.Lines(folded) {
			line = strings.TrimSuffix(line, "\n")
			if len(line) > NarrowWidth && strings.Contains(strings.TrimSpace(line), " ") || !strings.HasPrefix(line, strings.Repeat(" ", indent)) {
				t.Errorf("indent %d: %q", indent, line)
			}
		}
		if strings.Join(strings.Fields(folded), " ") != strings.TrimSpace(text) {
			t.Errorf("indent %d: words are lost: %q", indent, folded)
		}
	}
	if long := strings.Repeat("x", 200); Fold(long, 4, NarrowWidth) != long {
		t.Error("a long word is broken")
	}
	if Fold(text, 4, 0) != text {
		t.Error("what is no terminal has lines that end")
	}
}
