// Command sick is a payload that runs and is never healthy. Invariant: it is for
// tests alone.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
)

func main() {
	l, err := net.Listen("unix", os.Getenv("SHED_SOCKET"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { //nolint:errcheck,gosec // it is killed
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
}
