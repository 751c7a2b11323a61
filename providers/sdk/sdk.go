// Package sdk is what a provider plugin needs and no cloud is needed for.
//
// Invariants: what it refuses, it refuses with the contract's code and the name
// of the field, as the conformance suite wants it; and nothing here knows of any
// cloud.
package sdk

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/strictjson"
	"github.com/toolshed-cloud/shed/providers"
)

// MaxSettingsBytes caps what Configure takes.
const MaxSettingsBytes = 64 << 10

// Settings reads what Configure was given into a struct, and refuses what that
// has no field for. The error is CodeInvalid.
func Settings(raw []byte, into any) error {
	if len(raw) > MaxSettingsBytes {
		return providers.Errorf(providers.CodeInvalid, "settings have %d bytes, at most %d", len(raw), MaxSettingsBytes)
	}
	if err := strictjson.Unmarshal(raw, into); err != nil {
		return providers.Errorf(providers.CodeInvalid, "reading the settings: %s", err)
	}
	return nil
}

// validID is what ids of machines, installations and snapshots look like, as
// the control plane draws them: 128 bits in base32.
var validID = regexp.MustCompile(`^[a-z2-7]{26}$`)

// CheckID refuses what the control plane never drew, before it becomes the name
// of a file or a tag. The error is CodeInvalid, and names the field.
func CheckID[ID ~string](field string, id ID) error {
	if !validID.MatchString(string(id)) {
		return providers.Errorf(providers.CodeInvalid, "%s %.64q is not 26 characters of lowercase base32", field, string(id))
	}
	return nil
}

// MaxConfigBytes is what the narrowest of the clouds' channels carries, EC2's
// user data, and every provider takes.
const MaxConfigBytes = 16 << 10

// CheckCreate refuses a request that nothing can be made from, and answers which
// of the offerings it is for: the first where it names no region or no size.
// The error is CodeInvalid, and names the field and what there is instead.
func CheckCreate(req providers.CreateRequest, offered []providers.Offering) (providers.Offering, error) {
	if err := cmp.Or(CheckID("machine", req.Machine), CheckID("installation", req.Installation)); err != nil {
		return providers.Offering{}, err
	}
	spec := req.Spec
	switch n := len(spec.Config); {
	case spec.Release.IsZero():
		return providers.Offering{}, providers.Errorf(providers.CodeInvalid, "release is empty")
	case spec.DataBytes <= 0:
		return providers.Offering{}, providers.Errorf(providers.CodeInvalid, "data_bytes is %d", spec.DataBytes)
	case n == 0 || n > MaxConfigBytes:
		return providers.Offering{}, providers.Errorf(providers.CodeInvalid, "config has %d bytes, want 1 to %d", n, MaxConfigBytes)
	}
	return Choose(offered, spec.Region, spec.Size)
}

// Choose answers the offering of a region and a size, which may be empty for
// the first there is. The error is CodeInvalid, and names those that there are.
func Choose(offered []providers.Offering, region, size string) (providers.Offering, error) {
	var regions, sizes []string
	for _, o := range offered {
		regions = append(regions, o.Region)
		if region != "" && o.Region != region {
			continue
		}
		if size == "" || o.Size == size {
			return o, nil
		}
		sizes = append(sizes, o.Size)
	}
	if len(sizes) == 0 {
		return providers.Offering{}, providers.Errorf(providers.CodeInvalid, "region %.64q is not offered: %s", region, names(regions))
	}
	return providers.Offering{}, providers.Errorf(providers.CodeInvalid, "size %.64q is not offered: %s", size, names(sizes))
}

func names(all []string) string {
	slices.Sort(all)
	return strings.Join(slices.Compact(all), ", ")
}

// Same refuses a request for a machine that is there and was made from another
// one. The error is CodeConflict.
func Same(m providers.Machine, req providers.CreateRequest) error {
	switch {
	case m.Installation != req.Installation:
		return providers.Errorf(providers.CodeConflict, "machine %s belongs to another installation", m.ID)
	case m.SpecHash != req.Spec.Hash():
		return providers.Errorf(providers.CodeConflict, "machine %s was made from another spec", m.ID)
	}
	return nil
}

// CheckChange refuses what Apply must not do to a machine whose data disk has so
// many bytes. Errors are CodeConflict for an older generation and CodeInvalid
// for a disk that would shrink.
func CheckChange(m providers.Machine, dataBytes int64, c providers.Change) error {
	switch {
	case c.Generation < m.Generation:
		return providers.Errorf(providers.CodeConflict, "generation %d is older than %d", c.Generation, m.Generation)
	case c.DataBytes != 0 && c.DataBytes < dataBytes:
		return providers.Errorf(providers.CodeInvalid, "data_bytes is %d, and the disk has %d: it only grows", c.DataBytes, dataBytes)
	}
	return nil
}

// NotFound is what a call answers for a machine that certainly is not there.
func NotFound(id providers.MachineID) error {
	return providers.Errorf(providers.CodeNotFound, "machine %.64q is not here", string(id))
}

// chunk is how much of an image is read between two reports of progress.
const chunk = 8 << 20

// CopyImage copies an image's disk to w and refuses it unless the bytes that were
// copied are the ones that were promised. Errors are CodeInvalid, w's and ctx's.
func CopyImage(ctx context.Context, w io.Writer, want providers.File, progress func(done, total int64)) error {
	return CopyFile(ctx, w, "image", want, progress)
}

// CopyFile is CopyImage for any of an image's files, which its errors call what.
func CopyFile(ctx context.Context, w io.Writer, what string, want providers.File, progress func(done, total int64)) error {
	f, err := os.Open(want.Path)
	if err != nil {
		return providers.Errorf(providers.CodeInvalid, "%s: %s", what, err)
	}
	defer f.Close()
	sum := sha256.New()
	// One byte more than promised tells a longer file from a right one.
	source := io.LimitReader(f, want.Bytes+1)
	var done int64
	for n := int64(chunk); n == chunk; {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%w: %w", providers.Errorf(providers.CodeUnavailable, "copying the %s was given up", what), err)
		}
		n, err = io.CopyN(io.MultiWriter(sum, w), source, chunk)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("copying the %s: %w", what, err)
		}
		if done += n; progress != nil {
			progress(min(done, want.Bytes), want.Bytes)
		}
	}
	if done != want.Bytes {
		return providers.Errorf(providers.CodeInvalid, "%s has not the %d bytes it should have", what, want.Bytes)
	}
	if got := attest.Digest(sum.Sum(nil)); got != want.SHA256 {
		return providers.Errorf(providers.CodeInvalid, "%s has sha256 %s, want %s", what, got, want.SHA256)
	}
	return nil
}

// PageSize is how many machines one page of List tells of.
const PageSize = 100

// Page answers the ids of the page that follows a token, which is the last id of
// the page before, and the token of the next one; ids need not be in order.
func Page(ids []providers.MachineID, after string) (page []providers.MachineID, next string) {
	slices.Sort(ids)
	from, found := slices.BinarySearch(ids, providers.MachineID(after))
	if found {
		from++
	}
	if ids = ids[from:]; len(ids) > PageSize {
		return ids[:PageSize], string(ids[PageSize-1])
	}
	return ids, ""
}
