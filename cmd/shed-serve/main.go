// Command shed-serve is the control plane. Invariant: it is wiring; `shed serve`
// and what else needs a server's parts are handed to it with their arguments as
// they were typed.
package main

import "github.com/toolshed-cloud/shed/cmd/internal/cli"

func main() { cli.Main(newRootCommand()) }
