package tsm_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io/fs"
	"path"
	"syscall"
	"testing"

	"github.com/toolshed-cloud/shed/attest/attester/tsm"
	"github.com/toolshed-cloud/shed/attest/attester/tsm/tsmtest"
)

// faulty is a kernel that fails one operation on one attribute, some times.
type faulty struct {
	*tsmtest.Kernel
	op, attribute string
	err           error
	times         int
	// read are the attributes that were read.
	read []string
}

func (f *faulty) fault(op, name string) error {
	if op == f.op && path.Base(name) == f.attribute && f.times > 0 {
		f.times--
		return &fs.PathError{Op: op, Path: name, Err: f.err}
	}
	return nil
}

func (f *faulty) ReadFile(name string) ([]byte, error) {
	f.read = append(f.read, path.Base(name))
	if err := f.fault("read", name); err != nil {
		return nil, err
	}
	return f.Kernel.ReadFile(name)
}

func (f *faulty) WriteFile(name string, b []byte) error {
	if err := f.fault("write", name); err != nil {
		return err
	}
	return f.Kernel.WriteFile(name, b)
}

// The kernel's own words for somebody who writes in between (EBUSY of a write,
// EWOULDBLOCK of a read) have the report asked for again; its other errors not.
func TestKernelSaysContended(t *testing.T) {
	for name, c := range map[string]struct {
		op, attribute string
		err           error
		again         bool
	}{
		"busy to write":       {"write", "inblob", syscall.EBUSY, true},
		"busy to read":        {"read", "outblob", syscall.EBUSY, true},
		"would block":         {"read", "outblob", syscall.EAGAIN, true},
		"busy with the count": {"read", "generation", syscall.EBUSY, true},
		"broken to write":     {"write", "inblob", syscall.EIO, false},
		"broken to read":      {"read", "outblob", syscall.EIO, false},
	} {
		t.Run(name, func(t *testing.T) {
			k := &faulty{Kernel: &tsmtest.Kernel{Provider: tsm.SNP, Sign: echo}, op: c.op, attribute: c.attribute, err: c.err, times: 1}
			r, err := tsm.Get(k, rand.Reader, data)
			want, _, _ := echo(data)
			if c.again && (err != nil || !bytes.Equal(r.Report, want)) {
				t.Errorf("%v, %v", r, err)
			}
			if !c.again && !errors.Is(err, c.err) {
				t.Errorf("%v, %v, want %v", r, err, c.err)
			}
			if k.Entries() != 0 {
				t.Errorf("%d entries left", k.Entries())
			}
		})
	}
}

// A host without certificates has a kernel without the attribute; one that
// cannot be read is no such kernel.
func TestWithoutCertificates(t *testing.T) {
	k := &faulty{Kernel: &tsmtest.Kernel{Provider: tsm.SNP, Sign: echo}, op: "read", attribute: "auxblob", err: syscall.ENOENT, times: 1}
	if r, err := tsm.Get(k, rand.Reader, data); err != nil || r.Certificates != nil || len(r.Report) == 0 {
		t.Errorf("%+v, %v", r, err)
	}
	k.err, k.times = syscall.EIO, 1
	if r, err := tsm.Get(k, rand.Reader, data); !errors.Is(err, syscall.EIO) {
		t.Errorf("%+v, %v", r, err)
	}
}

// What stands beside a TDX quote is not asked for, whatever a kernel has there.
func TestNothingBesideTDX(t *testing.T) {
	k := &faulty{Kernel: &tsmtest.Kernel{Provider: tsm.TDX, Sign: echo}}
	if _, err := tsm.Get(k, rand.Reader, data); err != nil {
		t.Fatal(err)
	}
	for _, name := range k.read {
		if name == "auxblob" {
			t.Error("auxblob was read")
		}
	}
}

// stuck is a kernel whose entries do not go.
type stuck struct{ *tsmtest.Kernel }

func (stuck) Remove(name string) error {
	return &fs.PathError{Op: "rmdir", Path: name, Err: syscall.EBUSY}
}

// An entry that stays is said, since each takes the kernel's memory.
func TestEntryThatStays(t *testing.T) {
	if _, err := tsm.Get(stuck{&tsmtest.Kernel{Provider: tsm.TDX, Sign: echo}}, rand.Reader, data); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("error %v, want %v", err, syscall.EBUSY)
	}
}
