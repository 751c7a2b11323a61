package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type section struct {
	Allow []string          `yaml:"allow"`
	Each  map[string]nested `yaml:"each"`
}

type nested struct {
	N int `yaml:"n"`
}

func load(t *testing.T, text string) (*Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), FileName)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(path, true, func(string) (string, bool) { return "", false })
}

func TestSections(t *testing.T) {
	c, err := load(t, "version: 1\n# a comment\nfetch:\n  allow: [\"127.0.0.1:11434\"]\n  each: {a: {n: 3}}\n")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Unknown(); !errors.Is(err, ErrConfig) || !strings.Contains(fmt.Sprint(err), "fetch (line 4)") {
		t.Errorf("before anybody took it: %v", err)
	}
	var s section
	if err := c.Section("fetch", &s); err != nil || len(s.Allow) != 1 || s.Allow[0] != "127.0.0.1:11434" || s.Each["a"].N != 3 {
		t.Errorf("%+v, error %v", s, err)
	}
	kept := section{Allow: []string{"default"}}
	if err := c.Section("other", &kept); err != nil || kept.Allow[0] != "default" {
		t.Errorf("%+v, error %v", kept, err)
	}
	if err := c.Unknown(); err != nil {
		t.Error(err)
	}
}

func TestRefused(t *testing.T) {
	for text, says := range map[string]string{
		"":                                     "version",
		"fetch: {}":                            "version",
		"version: 2":                           "version",
		"version: one":                         "version",
		"version: 1\nversion: 1":               "version",
		"- version: 1":                         "keys",
		"version: 1\n---\nversion: 1":          "one document",
		"version: 1\nfetch: &a {}\nx: *a":      "line 2",
		"version: 1\nfetch: !!map {}":          "line 2",
		"version: 1\nfetch: {<<: {allow: []}}": "",
		"version: 1\nfetch: [":                 "",
		"version: 1\nfetch: " + strings.Repeat("[", 100) + strings.Repeat("]", 100): "deep",
		"version: 1\n#" + strings.Repeat("x", maxFile):                              "bytes",
	} {
		_, err := load(t, text)
		if !errors.Is(err, ErrConfig) || !strings.Contains(fmt.Sprint(err), says) {
			t.Errorf("%.40q: %v, want one that says %q", text, err, says)
		}
	}
	for text, says := range map[string]string{
		"version: 1\nfetch: {alow: []}":             "alow",
		"version: 1\nfetch: {each: {a: {m: 1}}}":    "m",
		"version: 1\nfetch: {allow: 3}":             "fetch",
		"version: 1\nfetch: {allow: [], allow: []}": "allow",
	} {
		c, err := load(t, text)
		if err == nil {
			err = c.Section("fetch", &section{})
		}
		if !errors.Is(err, ErrConfig) || !strings.Contains(fmt.Sprint(err), says) {
			t.Errorf("%.40q: %v, want one that says %q", text, err, says)
		}
	}
}

func TestMissingFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	if c, err := Load(path, false, os.LookupEnv); err != nil || c.Unknown() != nil {
		t.Errorf("where none is wanted: %v", err)
	}
	if _, err := Load(path, true, os.LookupEnv); !errors.Is(err, ErrConfig) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("where one is wanted: %v", err)
	}
}

func TestSecrets(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{FileName: "version: 1\n", "key": "from-file\n", "empty": "\n", "long": strings.Repeat("x", maxSecret+1)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Load(filepath.Join(dir, FileName), true, func(name string) (string, bool) {
		text, ok := map[string]string{"KEY": "from-env", "EMPTY": ""}[name]
		return text, ok
	})
	if err != nil {
		t.Fatal(err)
	}
	for s, want := range map[Secret]string{
		{Env: "KEY"}: "from-env", {File: "key"}: "from-file", {File: filepath.Join(dir, "key")}: "from-file",
		{}: "", {Env: "KEY", File: "key"}: "", {Env: "OTHER"}: "", {Env: "EMPTY"}: "", {File: "none"}: "", {File: "empty"}: "", {File: "long"}: "",
	} {
		got, err := c.Secret(s)
		if got != want || (err == nil) != (want != "") || (err != nil && !errors.Is(err, ErrConfig)) {
			t.Errorf("%+v: %q, error %v", s, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"version: 1\n", "version: 1\nfetch:\n  allow: [a, b]\n  each: {a: {n: 3}}\n", "version: 1\nfetch: &a {}\nx: *a", "- a", "? a\n: b", "version: 1\nfetch: |\n  text\n",
		"version: 1\nfetch: !!map {}", "a: 'b\n", "{version: 1, fetch: {}}", "version: 1\n\"fetch\": {}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > maxFile {
			return
		}
		c := Empty()
		if err := c.parse(b); err != nil {
			return
		}
		if err := c.Section("fetch", &section{}); err != nil && !errors.Is(err, ErrConfig) {
			t.Error(err)
		}
		if err := c.Unknown(); err != nil && !errors.Is(err, ErrConfig) {
			t.Error(err)
		}
	})
}
