package update

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
	"github.com/toolshed-cloud/shed/attest/statefile"
)

// record is what a machine remembers of the offer that it last heard of, beside the
// owner's data, so that whichever release starts next knows it.
type record struct {
	Version uint64               `cbor:"1,keyasint"`
	Release attest.ReleaseDigest `cbor:"2,keyasint"`
	Attempt uint64               `cbor:"3,keyasint"`
	Step    string               `cbor:"4,keyasint,omitempty"`
	Reason  string               `cbor:"5,keyasint,omitempty"`
	// Approval is the owner's signed word for this release.
	Approval []byte `cbor:"6,keyasint,omitempty"`
	// Known is the first time at which the log's witnesses vouched for the release
	// to this machine, in seconds since 1970; zero before, and without a log.
	Known int64 `cbor:"7,keyasint,omitempty"`
}

const recordVersion = 1

// maxRecord caps its encoding, in bytes.
const maxRecord = 2 << 10

// status is what is told of it; nil before the first offer.
func (r record) status() *api.UpdateStatus {
	if r.Release.IsZero() || r.Step == "" {
		return nil
	}
	s := &api.UpdateStatus{Release: r.Release, Attempt: r.Attempt, Step: api.UpdateStep(r.Step)}
	if s.Step.Ended() {
		s.Reason = api.UpdateReason(r.Reason)
	}
	return s
}

func (r record) offer() api.Offer { return api.Offer{Release: r.Release, Attempt: r.Attempt} }

func (r record) knownAt() time.Time { return time.Unix(r.Known, 0) }

// Records is the directory that the record stands in. It is there while the owner's
// volume is open.
type Records string

func (d Records) path() string { return filepath.Join(string(d), "update.cbor") }

// load is the record; an empty one where there is none. Errors are the disk's, and
// attest.ErrMalformed.
func (d Records) load() (r record, err error) {
	f, err := os.Open(d.path())
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, nil
	}
	if err != nil {
		return record{}, fmt.Errorf("reading how far an update is: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	b, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err != nil {
		return record{}, fmt.Errorf("reading how far an update is: %w", err)
	}
	if err := canon.Unmarshal("record of an update", b, maxRecord, &r); err != nil {
		return record{}, err
	}
	if r.Version != recordVersion {
		return record{}, fmt.Errorf("%w: record of an update has version %d, want %d", attest.ErrMalformed, r.Version, recordVersion)
	}
	return r, nil
}

// save keeps the record. Errors are the disk's.
func (d Records) save(r record) error {
	r.Version = recordVersion
	b, err := canon.Marshal(r)
	if err != nil {
		return fmt.Errorf("encoding how far an update is: %w", err)
	}
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return fmt.Errorf("keeping how far an update is: %w", err)
	}
	return statefile.Write(d.path(), 0o600, b)
}
