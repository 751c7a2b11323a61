// Command failing is a payload that ends as soon as it is started. Invariant: it is
// for tests alone.
package main

import "os"

func main() { os.Exit(1) }
