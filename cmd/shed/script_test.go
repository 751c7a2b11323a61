package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/toolshed-cloud/shed/cmd/internal/scripttest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"shed": main,
		// It stands in for the real one, and says what it was handed.
		"shed-serve": func() {
			if err := json.NewEncoder(os.Stdout).Encode(os.Args[1:]); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
			os.Exit(42)
		},
	})
}

// TestScripts runs the command line as a person does.
func TestScripts(t *testing.T) { scripttest.Run(t, "testdata/script", setUp) }

// TestHandOver is the three programs together, as they are built.
func TestHandOver(t *testing.T) {
	if testing.Short() {
		t.Skip("links three programs")
	}
	dir := t.TempDir()
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", dir+"/", ".", "../shed-serve", "../shed-image")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	scripttest.Run(t, "testdata/handover", func(env *testscript.Env) error {
		env.Setenv("PATH", dir+string(os.PathListSeparator)+env.Getenv("PATH"))
		env.Setenv("PROGRAMS", dir)
		return nil
	})
}
