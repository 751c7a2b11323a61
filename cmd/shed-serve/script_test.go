package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/toolshed-cloud/shed/cmd/internal/scripttest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"shed-serve": main})
}

// TestScripts runs the command line as a person does.
func TestScripts(t *testing.T) { scripttest.Run(t, "testdata/script", nil) }
