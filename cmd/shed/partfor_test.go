package main

import (
	"strings"
	"testing"
)

// A part gets what is asked of its own command, and shed all the rest.
func TestPartFor(t *testing.T) {
	for line, want := range map[string]string{
		"serve": "shed-serve", "serve --help": "shed-serve", "help serve": "shed-serve", "config": "shed-serve",
		"image build x": "shed-image", "provider test x --config y": "shed-serve", "provider list": "", "release rebuild x --inputs y": "shed-image", "help release rebuild": "shed-image", "release list": "", "release": "", "__complete image ": "shed-image", "__complete image --x": "shed-image",
		"__completeNoDesc serve ": "shed-serve",
		"":                        "", "help": "", "verify": "", "help verify": "", "mistyped": "",
		// The word is still being typed: it may become another.
		"__complete serve": "", "__complete se": "", "__complete ": "", "__complete": "",
	} {
		var args []string
		if line != "" {
			args = strings.Split(line, " ")
		}
		if got, ok := partFor(newRootCommand(), args); got != want || ok != (want != "") {
			t.Errorf("shed %s: %q (%t), want %q", line, got, ok, want)
		}
	}
}
