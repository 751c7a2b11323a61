// Package tsm asks the kernel for the report of a confidential VM, by configfs
// (Linux, Documentation/ABI/testing/configfs-tsm-report): AMD SEV-SNP and Intel
// TDX alike. Not tried on hardware: tests stand in for the kernel.
//
// Invariants: a report is over the asked data, or none is returned: the kernel
// counts writes to an entry, and whoever wrote in between shows in the count;
// every entry made is removed; what is read is capped, and a provider that is
// unknown is refused.
package tsm

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Root is where the kernel has its reports.
const Root = "/sys/kernel/config/tsm/report"

// MaxAttribute caps what is read of an attribute, bytes: the certificates that
// come with an SNP report are the longest.
const MaxAttribute = 64 << 10

// Provider is who makes reports in this kernel.
type Provider string

// The providers, as the kernel's drivers name themselves.
const (
	SNP Provider = "sev_guest"
	TDX Provider = "tdx_guest"
)

var (
	// ErrAbsent says that this machine has no provider of reports.
	ErrAbsent = errors.New("no provider of reports in this kernel")
	// ErrContended says that others went on writing to the entry.
	ErrContended = errors.New("others write to the report's entry")
	// ErrProvider says that the provider is none that is known here.
	ErrProvider = errors.New("unknown provider of reports")
)

// FS is the kernel's configfs below Root; names are relative to it. Errors are
// fs.PathError or others that wrap the kernel's.
type FS interface {
	// Mkdir makes an entry; fs.ErrExist where there is one.
	Mkdir(name string) error
	// WriteFile writes all of an attribute at once.
	WriteFile(name string, b []byte) error
	// ReadFile reads an attribute of at most MaxAttribute bytes.
	ReadFile(name string) ([]byte, error)
	// Remove removes an entry with its attributes.
	Remove(name string) error
}

// Report is what the kernel answered.
type Report struct {
	Provider Provider
	// Report is an SNP attestation report or a TDX quote.
	Report []byte
	// Certificates is the table of certificates beside an SNP report (GHCB
	// specification, section 4.1.8.1); empty where the host gives none.
	Certificates []byte
}

// attempts is how often a report is asked for while others write.
const attempts = 4

// Get has a report made over 64 bytes of the caller's. Entries have random
// names, so that no two callers share one. Errors are ErrAbsent, ErrContended,
// ErrProvider, those of rand, and the kernel's.
func Get(f FS, rand io.Reader, data [64]byte) (*Report, error) {
	var err error
	for range attempts {
		var r *Report
		if r, err = once(f, rand, data); err == nil {
			return r, nil
		}
		if !errors.Is(err, ErrContended) && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	return nil, err
}

func once(f FS, rand io.Reader, data [64]byte) (r *Report, err error) {
	name := make([]byte, 16)
	if _, err := io.ReadFull(rand, name); err != nil {
		return nil, fmt.Errorf("naming a report: %w", err)
	}
	e := entry{f: f, name: "shed-" + hex.EncodeToString(name)}
	if err := f.Mkdir(e.name); err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENXIO) {
			return nil, fmt.Errorf("%w: %w", ErrAbsent, err)
		}
		return nil, fmt.Errorf("making a report's entry: %w", err)
	}
	defer func() {
		if gone := f.Remove(e.name); gone != nil {
			err = errors.Join(err, fmt.Errorf("removing a report's entry: %w", gone))
		}
	}()
	return e.report(data)
}

// entry is a directory of the kernel's, one report each.
type entry struct {
	f    FS
	name string
}

func (e entry) read(attribute string) ([]byte, error) {
	b, err := e.f.ReadFile(path.Join(e.name, attribute))
	if errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EAGAIN) {
		return nil, fmt.Errorf("%w: reading %s: %w", ErrContended, attribute, err)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s of report: %w", attribute, err)
	}
	if len(b) > MaxAttribute {
		return nil, fmt.Errorf("reading %s of report: more than %d bytes", attribute, MaxAttribute)
	}
	return b, nil
}

// generation is how many times the entry was written to.
func (e entry) generation() (uint64, error) {
	b, err := e.read("generation")
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(string(b), "\n"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("generation of report: %w", err)
	}
	return n, nil
}

func (e entry) report(data [64]byte) (*Report, error) {
	before, err := e.generation()
	if err != nil {
		return nil, err
	}
	if err := e.f.WriteFile(path.Join(e.name, "inblob"), data[:]); err != nil {
		if errors.Is(err, syscall.EBUSY) {
			return nil, fmt.Errorf("%w: writing inblob: %w", ErrContended, err)
		}
		return nil, fmt.Errorf("writing inblob of report: %w", err)
	}
	r, err := e.answer()
	if err != nil {
		return nil, err
	}
	after, err := e.generation()
	if err != nil {
		return nil, err
	}
	if after != before+1 {
		return nil, fmt.Errorf("%w: generation %d, want %d", ErrContended, after, before+1)
	}
	return r, nil
}

// answer reads all that the kernel answers.
func (e entry) answer() (*Report, error) {
	out, err := e.read("outblob")
	if err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("reading outblob of report: %w", io.ErrUnexpectedEOF)
	}
	name, err := e.read("provider")
	if err != nil {
		return nil, err
	}
	provider := Provider(strings.TrimSuffix(string(name), "\n"))
	if !slices.Contains([]Provider{SNP, TDX}, provider) {
		return nil, fmt.Errorf("%w: %.40q", ErrProvider, provider)
	}
	r := &Report{Provider: provider, Report: out}
	if provider != SNP {
		return r, nil
	}
	// A kernel without certificates to give has no such attribute, or an empty one.
	r.Certificates, err = e.read("auxblob")
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return r, err
}
