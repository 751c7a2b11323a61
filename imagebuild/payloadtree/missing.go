package payloadtree

import (
	"fmt"
	"slices"
	"strings"
)

// MissingError says what a file of the payload needs and the payload has not.
type MissingError struct {
	// Name is a library's name, or a program's path.
	Name string
	// By is the file that needs it.
	By string
	// Library is false for a program: an interpreter or a loader.
	Library bool
	// Also are the names of the other libraries that are not there.
	Also []string
}

func (e *MissingError) Error() string {
	what := "program"
	if e.Library {
		what = "library"
	}
	text := fmt.Sprintf("%s needs the %s %s, which is not in the payload", e.By, what, e.Name)
	switch len(e.Also) {
	case 0:
		return text
	case 1:
		return text + "; nor is " + e.Also[0]
	}
	return text + "; nor are " + strings.Join(e.Also, ", ")
}

// miss notes a library that is not there, each once.
func (c *check) miss(name, by string) {
	switch {
	case c.missing == nil:
		c.missing = &MissingError{Name: name, By: "/" + by, Library: true}
	case c.missing.Name != name && !slices.Contains(c.missing.Also, name):
		c.missing.Also = append(c.missing.Also, name)
	}
}
