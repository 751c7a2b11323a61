// Command shed-provider-qemu is the provider that makes machines out of QEMU
// and swtpm on this host. Invariant: it is wiring; the control plane starts it,
// and run by hand it says so.
package main

import (
	"fmt"
	"os"

	"github.com/toolshed-cloud/shed/providers/plugin"
	"github.com/toolshed-cloud/shed/providers/qemu"
)

// version is set when the program is linked.
var version = "dev"

func main() {
	log := plugin.Logger()
	if err := plugin.Serve(qemu.New(qemu.Options{Version: version, Log: log})); err != nil {
		fmt.Fprintf(os.Stderr, "shed-provider-qemu: %v\n", err)
		os.Exit(1)
	}
}
