package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

// partAnnotation names the program that a command is handed to.
const partAnnotation = "part"

// newPart is a command that another program has. It never runs here: it is
// there for the help, and for partFor to find.
func newPart(name, program, short string) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short, Annotations: map[string]string{partAnnotation: program}, DisableFlagParsing: true,
		Run: func(*cobra.Command, []string) {},
	}
}

// newParts are the commands that need more than a client has.
func newParts() []*cobra.Command {
	return []*cobra.Command{
		newPart("serve", "shed-serve", "run the control plane"),
		newPart("config", "shed-serve", "explain the control plane's configuration"),
		newPart("image", "shed-image", "build and sign the image that machines boot"),
	}
}

// partFor is the program that a command line is for, where it is not for this
// one. Asking for help or for completions of a part's command is the part's
// own, too.
func partFor(root *cobra.Command, args []string) (program string, ok bool) {
	if len(args) > 1 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd) {
		// The last word is the one being typed.
		args = args[1 : len(args)-1]
	}
	root.InitDefaultHelpCmd()
	found, rest, err := root.Find(args)
	if err == nil && found.Name() == "help" {
		found, _, err = root.Find(rest)
	}
	if err != nil {
		return "", false
	}
	program, ok = found.Annotations[partAnnotation]
	return program, ok
}

// handOver makes this process the other program with the same arguments, or
// runs it and exits as it does. It only returns where that did not work.
func handOver(program string, args []string) error {
	path, err := findPart(program)
	if err != nil {
		return err
	}
	if err := become(path, args); err != nil {
		return fmt.Errorf("handing over to %s: %w", path, err)
	}
	return nil
}

// findPart looks beside this program, wherever links to it lie, and then where
// the shell would.
func findPart(program string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("looking for %s: %w", program, err)
	}
	if self, err = filepath.EvalSymlinks(self); err != nil {
		return "", fmt.Errorf("looking for %s: %w", program, err)
	}
	beside := filepath.Join(filepath.Dir(self), program)
	if runtime.GOOS == "windows" {
		beside += ".exe"
	}
	if path, err := exec.LookPath(beside); err == nil {
		return path, nil
	}
	path, err := exec.LookPath(program)
	if errors.Is(err, exec.ErrNotFound) {
		return "", cli.Hinted(cli.NotFound(fmt.Errorf("the program %s, which has this command, is missing", program)),
			"it was looked for at %s and on the PATH: install it beside shed", beside)
	}
	if err != nil {
		return "", fmt.Errorf("looking for %s: %w", program, err)
	}
	return path, nil
}
