// Command shed is the command line of owners and operators. Invariant: it is
// wiring and a client: what needs the control plane's parts or the image
// builder's is handed to a program of its own, so that what an owner has to
// trust stays small (scripts/repository holds what it may link).
package main

import (
	"os"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

func main() {
	root := newRootCommand()
	if program, ok := partFor(root, os.Args[1:]); ok {
		os.Exit(cli.Report(os.Stderr, handOver(program, os.Args[1:]), cli.AsksForJSON(os.Args[1:])))
	}
	cli.Main(root)
}
