package main

import (
	"testing"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

// One machine is remembered by one name, however it is written.
func TestParseMachine(t *testing.T) {
	for text, want := range map[string]string{
		"https://example.org":           "example.org:443",
		"https://example.org:443":       "example.org:443",
		"https://EXAMPLE.org.:443/path": "example.org:443",
		"https://127.0.0.1:8443":        "127.0.0.1:8443",
		"https://[::1]":                 "[::1]:443",
	} {
		u, err := parseMachine(text)
		if err != nil || u.Host != want {
			t.Errorf("%s: host %v, error %v, want %s", text, u, err, want)
		}
	}
	for _, text := range []string{"", "nonsense", "http://example.org", "https://", "https://:443", "https://%zz"} {
		if _, err := parseMachine(text); cli.ExitCode(err) != cli.ExitUsage {
			t.Errorf("%q: error %v", text, err)
		}
	}
}
