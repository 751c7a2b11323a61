//go:build unix

package main

import (
	"os"
	"syscall"
)

// become replaces this process, so that its signals and its end are the other
// program's.
func become(path string, args []string) error {
	return syscall.Exec(path, append([]string{path}, args...), os.Environ())
}
