package update

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/agent/bootentry"
	"github.com/toolshed-cloud/shed/agent/esp"
	"github.com/toolshed-cloud/shed/agent/verity"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
	"github.com/toolshed-cloud/shed/attest/logproof"
	"github.com/toolshed-cloud/shed/attest/release"
)

// Slots are the two images of the boot disk.
type Slots struct {
	// Open opens the boot disk; Close of what it answers ends that.
	Open func() (BootDisk, error)
	// Running is the file that the machine starts with, Other the one beside it.
	Running, Other string
	// Payload is the path of the running release's payload on the partition; empty
	// where that is part of the image.
	Payload string
}

// BootDisk is the disk that the machine boots from.
type BootDisk interface {
	esp.Disk
	io.Closer
}

// SlotsOf names an architecture's two files (UEFI specification 2.10, section
// 3.5.1.1). The error is for one that no image is made for.
func SlotsOf(architecture string) (running, other string, err error) {
	switch architecture {
	case "amd64":
		return "EFI/BOOT/BOOTX64.EFI", "EFI/BOOT/NEXTX64.EFI", nil
	case "arm64":
		return "EFI/BOOT/BOOTAA64.EFI", "EFI/BOOT/NEXTAA64.EFI", nil
	}
	return "", "", fmt.Errorf("there are no images for %s", architecture)
}

// files is the directory of the files that belong to an image, and predecessor says
// there what the other slot's image was made sure of when it handed over.
const (
	files       = "SHED"
	predecessor = files + "/FROM.BIN"
)

// with does something with the partition.
func (s Slots) with(do func(*esp.Volume) error) (err error) {
	disk, err := s.Open()
	if err != nil {
		return fmt.Errorf("opening the boot disk: %w", err)
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	v, err := esp.Open(disk)
	if err != nil {
		return err
	}
	return do(v)
}

// Source is where a release comes from. Errors are the network's.
type Source interface {
	// Release is what the release says of itself.
	Release(context.Context, attest.ReleaseDigest) (api.UpdateRelease, error)
	// File is the part of a file from offset on, of at most api.MaxChunkBytes; none
	// at its end.
	File(ctx context.Context, d attest.ReleaseDigest, name string, offset int64) ([]byte, error)
}

// fill writes the other slot, and what else the release has, from source. What came
// is compared with the manifest before it has a name. Errors match esp.ErrNoRoom or
// errOther, or are the disk's and the source's.
func (s Slots) fill(ctx context.Context, c *candidate, source Source) error {
	return s.with(func(v *esp.Volume) error {
		if err := s.clear(v); err != nil {
			return err
		}
		for i, f := range c.manifest.UpdateFiles() {
			target := s.Other
			if i > 0 {
				target = verity.Root{Hash: c.manifest.Payload.Root.RootHash}.FileName()
			}
			// The payload that runs is read from there, also where it goes on alone.
			if target == s.Payload {
				continue
			}
			from := newDownload(ctx, source, c.digest, f)
			err := v.Write(target, f.Bytes, from)
			from.stop()
			if err != nil {
				return fmt.Errorf("writing the other slot: %w", err)
			}
		}
		return nil
	})
}

// clear removes what neither slot will need. What the running image started with
// stays whatever else there is.
func (s Slots) clear(v *esp.Volume) error {
	names, err := v.List(files)
	if err != nil && !errors.Is(err, esp.ErrNoFile) {
		return err
	}
	gone := []string{s.Other}
	for _, name := range names {
		if file := path.Join(files, name); file != s.Payload {
			gone = append(gone, file)
		}
	}
	for _, name := range gone {
		if err := v.Remove(name); err != nil && !errors.Is(err, esp.ErrNoFile) {
			return fmt.Errorf("clearing the other slot: %w", err)
		}
	}
	return nil
}

// leave has the next release find what vouches for this one.
func (s Slots) leave(r api.UpdateRelease) error {
	b, err := canon.Marshal(left{Manifest: r.Manifest, Bundle: r.Bundle, Proof: r.Proof})
	if err != nil {
		return fmt.Errorf("encoding what vouches for this release: %w", err)
	}
	return s.with(func(v *esp.Volume) error { return v.Write(predecessor, int64(len(b)), bytes.NewReader(b)) })
}

// left is what vouches for the release that hands over.
type left struct {
	Manifest []byte `cbor:"1,keyasint"`
	Bundle   []byte `cbor:"2,keyasint"`
	Proof    []byte `cbor:"3,keyasint,omitempty"`
}

// maxLeft caps its encoding, in bytes.
const maxLeft = release.MaxManifestBytes + release.MaxBundleBytes + logproof.MaxDocumentBytes + 1<<10

// found is what the release before has left, which anybody can have written.
func (s Slots) found() (r api.UpdateRelease, err error) {
	err = s.with(func(v *esp.Volume) error {
		from, err := v.Reader(predecessor)
		if err != nil {
			return err
		}
		b, err := io.ReadAll(io.LimitReader(from, maxLeft+1))
		if err != nil {
			return fmt.Errorf("reading what vouches for the release before: %w", err)
		}
		var l left
		if err := canon.Unmarshal("what vouches for the release before", b, maxLeft, &l); err != nil {
			return err
		}
		r = api.UpdateRelease{Manifest: l.Manifest, Bundle: l.Bundle, Proof: l.Proof}
		return nil
	})
	return r, err
}

// file is the other slot as firmware is told of it.
func (s Slots) file() (f bootentry.File, err error) {
	err = s.with(func(v *esp.Volume) error {
		f = bootentry.File{Partition: v.Number, FirstLBA: v.FirstLBA, Sectors: v.Sectors, GUID: v.UniqueGUID, Path: s.Other}
		_, err := v.Bytes(s.Other)
		return err
	})
	return f, err
}

// Swap has the two images change places, so that the machine starts with the one
// that was tried. Errors are esp's.
func (s Slots) Swap() error {
	return s.with(func(v *esp.Volume) error { return v.Swap(s.Running, s.Other) })
}

// errOther says that a file is not the one that the manifest names.
var errOther = errors.New("it is not the file that the manifest names")
