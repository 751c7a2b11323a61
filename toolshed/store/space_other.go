//go:build !linux

package store

import (
	"errors"
	"math"
	"os"
	"syscall"
)

const errNoSpace = syscall.ENOSPC

// space is unbounded: no room is kept where this is not known, and a full disk
// is what SQLite says it is.
func space(*os.File) (int64, error) { return math.MaxInt64 / 2, nil }

func allocate(*os.File, int64) error { return errors.ErrUnsupported }
