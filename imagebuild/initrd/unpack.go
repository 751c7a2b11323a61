package initrd

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"
)

// maxUnpacked caps an archive that is unpacked: one has some 40 MiB.
const maxUnpacked = 512 << 20

// ErrUnpack says that something is no archive, or a larger one than there is.
var ErrUnpack = errors.New("no initrd")

// Unpack reads an archive and answers what each entry is: its mode, and the
// SHA-256 of its data. Behind the archive may be zeros. Errors match ErrUnpack.
func Unpack(r io.Reader) (map[string]string, error) {
	d, err := zstd.NewReader(r, zstd.WithDecoderMaxMemory(maxUnpacked), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnpack, err)
	}
	defer d.Close()
	raw, err := io.ReadAll(io.LimitReader(d, maxUnpacked+1))
	// The section is padded with zeros, which are no further frame.
	if len(raw) > maxUnpacked || len(raw) == 0 {
		return nil, fmt.Errorf("%w: %d bytes unpack, at most %d: %v", ErrUnpack, len(raw), maxUnpacked, err) //nolint:errorlint // it is one kind of failure
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(raw)))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnpack, err)
	}
	entries := map[string]string{}
	for _, record := range records {
		h := sha256.New()
		if _, err := io.Copy(h, io.NewSectionReader(record, 0, int64(record.FileSize))); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrUnpack, record.Name, err)
		}
		entries[record.Name] = fmt.Sprintf("%o %s", record.Mode, hex.EncodeToString(h.Sum(nil)))
	}
	return entries, nil
}
