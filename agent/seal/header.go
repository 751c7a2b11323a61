package seal

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
	"github.com/toolshed-cloud/shed/attest/ownership"
)

// VolumeID names one formatting of a data disk.
type VolumeID [16]byte

func (v VolumeID) String() string { return hex.EncodeToString(v[:]) }

// headerBytes is what a copy of the header takes. There are two, so that a power
// cut while one is written leaves the other; the encrypted volume begins at
// payloadOffset.
const (
	headerBytes   = 4 << 10
	secondHeader  = 64 << 10
	payloadOffset = 1 << 20
)

// headerVersion 1 did not say who had sealed the key, 2 held no authorizations,
// 3 stood before volumes without tags, 4 once alone, and 5 before file systems
// without a subvolume for the data. An image that reads 6 could not open such a
// volume: its key is sealed to the image that made it (docs/decisions/0068).
const headerVersion = 6

var headerMagic = [8]byte{'S', 'H', 'E', 'D', 'V', 'O', 'L', '1'}

// header carries the wrapped key. Nothing in it decides anything: volume and
// claim are compared with what the TPM holds, and the whole of it but the
// wrapped key is named in what the TPM certifies of that key's making.
type header struct {
	Version uint64        `cbor:"1,keyasint"`
	Volume  VolumeID      `cbor:"2,keyasint"`
	Claim   attest.Digest `cbor:"3,keyasint"`
	Sealed  Sealed        `cbor:"4,keyasint"`
	// Authorizations are the TPM's, encrypted under the data key.
	Authorizations []byte `cbor:"5,keyasint"`
	// Recovery is data key and authorizations, encrypted to the claim's
	// recovery recipient.
	Recovery []byte `cbor:"6,keyasint"`
	// Sequence counts the headers of the disk: the later of two copies holds.
	Sequence uint64 `cbor:"7,keyasint"`
	// Handover is there while a second release may open the volume.
	Handover *handover `cbor:"8,keyasint,omitempty"`
	// Updates is how many times the volume was handed over on this machine, which
	// the TPM is to remember.
	Updates uint64 `cbor:"9,keyasint,omitempty"`
}

// handover lets the release that Next is sealed for take the volume over.
type handover struct {
	// Approval is the owner's signed word; empty where their standing policy is.
	Approval []byte `cbor:"1,keyasint,omitempty"`
	Next     Sealed `cbor:"2,keyasint"`
	// Passed is there once the next release was healthy on trial: a code under the
	// data key, which no host has.
	Passed []byte `cbor:"3,keyasint,omitempty"`
}

// context is what the header's encryptions are for: this volume of this claim.
func (h header) context() []byte { return ownership.RecoveryContext(h.Volume, h.Claim) }

// digest names the header without the wrapped keys, whichever copy it is and however
// far a trial has come.
func (h header) digest() (attest.Digest, error) {
	h.Sealed, h.Sequence = Sealed{}, 0
	if h.Handover != nil {
		h.Handover = &handover{Approval: h.Handover.Approval}
	}
	body, err := canon.Marshal(h)
	if err != nil {
		return attest.Digest{}, fmt.Errorf("encoding data disk header: %w", err)
	}
	return attest.Sum(append([]byte("shed/volume/3\x00"), body...)), nil
}

var (
	errNoHeader = errors.New("data disk has no header")
	// errTorn is the first header of a claim that a power cut interrupted.
	errTorn = errors.New("data disk header was not written whole")
)

// encode is a copy: magic, length, body and a SHA-256 of these, by which a copy
// that was not written whole is known.
func (h header) encode() ([]byte, error) {
	body, err := canon.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encoding data disk header: %w", err)
	}
	b := append([]byte{}, headerMagic[:]...)
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(body))), body...)
	sum := attest.Sum(b)
	if b = append(b, sum[:]...); len(b) > headerBytes {
		return nil, fmt.Errorf("encoding data disk header: %d bytes, at most %d", len(b), headerBytes)
	}
	return append(b, make([]byte, headerBytes-len(b))...), nil
}

// decodeHeader reads a copy, headerBytes of a disk. The error is errNoHeader
// where there is no magic, attest.ErrMalformed where what follows is bad.
func decodeHeader(b []byte) (header, error) {
	var h header
	const fixed = len(headerMagic) + 4
	if len(b) < fixed || !bytes.Equal(b[:len(headerMagic)], headerMagic[:]) {
		return h, errNoHeader
	}
	n := int64(binary.BigEndian.Uint32(b[len(headerMagic):]))
	if n > int64(len(b)-fixed-len(attest.Digest{})) {
		return h, fmt.Errorf("%w: data disk header claims %d bytes", attest.ErrMalformed, n)
	}
	end := fixed + int(n)
	if sum := attest.Sum(b[:end]); !bytes.Equal(b[end:end+len(sum)], sum[:]) {
		return h, fmt.Errorf("%w: %w", attest.ErrMalformed, errTorn)
	}
	if err := canon.Unmarshal("data disk header", b[fixed:end], headerBytes, &h); err != nil {
		return h, err
	}
	if h.Version != headerVersion {
		return h, fmt.Errorf("%w: data disk header has version %d, want %d", attest.ErrMalformed, h.Version, headerVersion)
	}
	return h, nil
}

// readHeader is the copy that holds. Errors are decodeHeader's of the copy that
// was written first.
func readHeader(disk io.ReaderAt) (header, error) {
	first, firstErr := readCopy(disk, 0)
	second, secondErr := readCopy(disk, secondHeader)
	if secondErr != nil || firstErr == nil && !first.before(second) {
		return first, firstErr
	}
	return second, secondErr
}

// before compares by the distance, so that the count may go round: the host, which
// can write any, could else have a header that is never followed.
func (h header) before(other header) bool { return int64(h.Sequence-other.Sequence) < 0 }

func readCopy(disk io.ReaderAt, at int64) (header, error) {
	b := make([]byte, headerBytes)
	if _, err := disk.ReadAt(b, at); err != nil {
		return header{}, fmt.Errorf("reading data disk header: %w", err)
	}
	return decodeHeader(b)
}

// writeHeader writes the copy that does not hold, so that there is one at every
// moment.
func writeHeader(disk *os.File, h header) error {
	at := int64(0)
	switch there, err := readHeader(disk); {
	case err == nil:
		first, err := readCopy(disk, 0)
		if err == nil && first.Sequence == there.Sequence {
			at = secondHeader
		}
		h.Sequence = there.Sequence + 1
	case !errors.Is(err, errNoHeader) && !errors.Is(err, errTorn):
		return err
	}
	b, err := h.encode()
	if err != nil {
		return err
	}
	if _, err := disk.WriteAt(b, at); err != nil {
		return fmt.Errorf("writing data disk header: %w", err)
	}
	if err := disk.Sync(); err != nil {
		return fmt.Errorf("writing data disk header: %w", err)
	}
	return nil
}

// blankProbe is how much at the start of a disk has to be zero for it to count
// as blank: the header's part and as much again, where every file system and
// partition table begins. lastProbe is how much at its end: the second copy of a
// partition table and what tells the members of an array are there.
const (
	blankProbe = 2 * payloadOffset
	lastProbe  = 1 << 20
)

// minDiskBytes is what a header, a journal and the least file system take.
const minDiskBytes = 16 << 20

// blank reports whether nothing was ever written where a disk says what it is.
func blank(disk *os.File) (bool, error) { return blankFrom(disk, 0) }

// blankFrom is blank but for what stands before from.
func blankFrom(disk *os.File, from int64) (bool, error) {
	size, err := disk.Seek(0, io.SeekEnd)
	if err != nil {
		return false, fmt.Errorf("measuring data disk: %w", err)
	}
	for _, part := range []struct{ from, to int64 }{{from, min(blankProbe, size)}, {max(from, size-lastProbe), size}} {
		empty, err := zero(io.NewSectionReader(disk, part.from, part.to-part.from))
		if err != nil || !empty {
			return false, err
		}
	}
	return true, nil
}

func zero(part io.Reader) (bool, error) {
	b, err := io.ReadAll(part)
	if err != nil {
		return false, fmt.Errorf("reading data disk: %w", err)
	}
	return len(bytes.Trim(b, "\x00")) == 0, nil
}
