// Command shed-provider-libvirt is the provider that makes machines out of the
// libvirt domains of an operator's own hosts. Invariant: it is wiring; the
// control plane starts it, and run by hand it says so.
package main

import (
	"fmt"
	"os"

	"github.com/toolshed-cloud/shed/providers/libvirt"
	"github.com/toolshed-cloud/shed/providers/plugin"
)

// version is set when the program is linked.
var version = "dev"

func main() {
	log := plugin.Logger()
	if err := plugin.Serve(libvirt.New(libvirt.Options{Version: version, Log: log})); err != nil {
		fmt.Fprintf(os.Stderr, "shed-provider-libvirt: %v\n", err)
		os.Exit(1)
	}
}
