// Command shed-image builds and signs the image that machines boot. Invariant:
// it is wiring; `shed image` is handed to it with its arguments as they were
// typed, and of the programs it alone links the key services.
package main

import "github.com/toolshed-cloud/shed/cmd/internal/cli"

func main() { cli.Main(newRootCommand()) }
