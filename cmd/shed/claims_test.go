package main

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// The manual has every claim that a program can read.
func TestClaimsAreDocumented(t *testing.T) {
	manual, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(manual), "## What `shed verify --json` prints")
	section, _, _ = strings.Cut(section, "\n## ")
	names := claimNames(reflect.TypeFor[claims]())
	if !found || len(names) < 20 {
		t.Fatalf("the section is there: %t, claims %v", found, names)
	}
	for _, name := range names {
		if !strings.Contains(section, "`"+name+"`") {
			t.Errorf("docs/policy.md has no %s", name)
		}
	}
}

// claimNames are the names of a struct's fields in JSON, those of the structs
// that it embeds too.
func claimNames(of reflect.Type) (names []string) {
	for field := range of.Fields() {
		kind := field.Type
		if kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case field.Anonymous:
			names = append(names, claimNames(kind)...)
		case name != "" && name != "-":
			names = append(names, name)
		}
	}
	return names
}
