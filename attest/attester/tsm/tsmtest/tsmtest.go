// Package tsmtest stands in for the kernel's configfs-tsm, as
// drivers/virt/coco/tsm.c of Linux 6.12 behaves: entries are made and removed,
// each write raises the generation, a report is made when it is read after a
// write, and reads in between get the same one.
//
// Invariant: nothing that ships imports it; what it signs is synthetic, under
// the root of whoever gave it Sign.
package tsmtest

import (
	"fmt"
	"io/fs"
	"path"
	"sync"
	"syscall"

	"github.com/toolshed-cloud/shed/attest/attester/tsm"
)

// Kernel is a kernel with one provider of reports.
type Kernel struct {
	// Provider is its name; empty is a kernel without any.
	Provider tsm.Provider
	// Sign makes a report over what was written, and what stands beside it.
	Sign func(data [64]byte) (report, certificates []byte, err error)
	// Before is called before an attribute is read, without the lock, for a
	// test that writes in between. It may be nil.
	Before func(entry, attribute string)

	mu sync.Mutex
	// entries are guarded by mu.
	entries map[string]*entry
}

var _ tsm.FS = (*Kernel)(nil)

// entry is one of the kernel's directories.
type entry struct {
	written, read uint64
	in            []byte
	out, aux      []byte
}

func fail(op, name string, errno syscall.Errno) error {
	return &fs.PathError{Op: op, Path: name, Err: errno}
}

// Entries is how many there are.
func (k *Kernel) Entries() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.entries)
}

// Mkdir makes an entry.
func (k *Kernel) Mkdir(name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.Provider == "" {
		return fail("mkdir", name, syscall.ENXIO)
	}
	if k.entries[name] != nil {
		return fail("mkdir", name, syscall.EEXIST)
	}
	if k.entries == nil {
		k.entries = map[string]*entry{}
	}
	k.entries[name] = &entry{}
	return nil
}

// Remove removes an entry.
func (k *Kernel) Remove(name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.entries[name] == nil {
		return fail("rmdir", name, syscall.ENOENT)
	}
	delete(k.entries, name)
	return nil
}

// WriteFile writes an attribute. The kernel stops taking writes before the count of
// them comes round to that of the last read.
func (k *Kernel) WriteFile(name string, b []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.entries[path.Dir(name)]
	switch {
	case e == nil:
		return fail("open", name, syscall.ENOENT)
	case path.Base(name) != "inblob":
		return fail("open", name, syscall.EACCES)
	case len(b) == 0 || len(b) > 64:
		return fail("write", name, syscall.EINVAL)
	case e.written == e.read-1:
		return fail("write", name, syscall.EBUSY)
	}
	e.in = append([]byte(nil), b...)
	e.written++
	return nil
}

// ReadFile reads an attribute.
func (k *Kernel) ReadFile(name string) ([]byte, error) {
	if k.Before != nil {
		k.Before(path.Dir(name), path.Base(name))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.entries[path.Dir(name)]
	if e == nil {
		return nil, fail("open", name, syscall.ENOENT)
	}
	switch path.Base(name) {
	case "generation":
		return fmt.Appendln(nil, e.written), nil
	case "provider":
		return fmt.Appendln(nil, k.Provider), nil
	case "outblob":
		err := k.make(name, e)
		return e.out, err
	case "auxblob":
		if k.Provider != tsm.SNP {
			return nil, fail("open", name, syscall.ENOENT)
		}
		err := k.make(name, e)
		return e.aux, err
	case "inblob":
		return nil, fail("open", name, syscall.EACCES)
	}
	return nil, fail("open", name, syscall.ENOENT)
}

// make makes the report where something was written since the last was read.
func (k *Kernel) make(name string, e *entry) error {
	if len(e.in) == 0 {
		return fail("read", name, syscall.EINVAL)
	}
	if e.read == e.written {
		return nil
	}
	var data [64]byte
	copy(data[:], e.in)
	out, aux, err := k.Sign(data)
	if err != nil {
		return fail("read", name, syscall.EIO)
	}
	e.out, e.aux, e.read = out, aux, e.written
	return nil
}
