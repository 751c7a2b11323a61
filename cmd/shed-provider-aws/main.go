// Command shed-provider-aws is the provider that makes machines out of EC2.
// Invariant: it is wiring; the control plane starts it, and run by hand it says
// so.
package main

import (
	"fmt"
	"os"

	"github.com/toolshed-cloud/shed/providers/aws"
	"github.com/toolshed-cloud/shed/providers/plugin"
)

// version is set when the program is linked.
var version = "dev"

func main() {
	if err := plugin.Serve(aws.New(aws.Options{Version: version, Log: plugin.Logger()})); err != nil {
		fmt.Fprintf(os.Stderr, "shed-provider-aws: %v\n", err)
		os.Exit(1)
	}
}
