// Package disk lays out the system disk: a GPT with one EFI system partition,
// FAT32, that holds the given files.
//
// Invariants: the same files give the same bytes, with no time and no random
// identifier in them; what is not written is a hole; each file lies in one run
// of clusters.
package disk

import (
	"errors"
	"fmt"
	"io"
)

// ErrLayout says that the files do not fit or cannot be named on the disk.
var ErrLayout = errors.New("files do not fit the disk")

// The layout. The partition has room for two images, and for the 65,525
// clusters of 4 KiB that FAT32 needs at least. Larger clusters were tried:
// firmware reads the image no faster.
const (
	sectorSize     = 512
	partitionStart = 1 << 20
	partitionSize  = 288 << 20
	// Size is that of the whole disk.
	Size = partitionStart + partitionSize + 1<<20
)

// File is one file on the partition. Path has slashes and names of at most
// eight and three uppercase characters.
type File struct {
	Path string
	Data []byte
}

// Write writes the disk to w, which must read as zeros where nothing is
// written, as a new file of Size bytes does. Errors match ErrLayout.
func Write(w io.WriterAt, files []File) error {
	if err := writeTable(w); err != nil {
		return fmt.Errorf("writing partition table: %w", err)
	}
	if err := writeFAT(io.NewOffsetWriter(w, partitionStart), files); err != nil {
		return fmt.Errorf("writing EFI system partition: %w", err)
	}
	return nil
}

// Describe names the part of the disk that an offset lies in.
func Describe(offset int64) string {
	switch {
	case offset < partitionStart:
		return "the partition table"
	case offset < partitionStart+partitionSize:
		return "the EFI system partition's file system"
	default:
		return "the partition table's copy"
	}
}
