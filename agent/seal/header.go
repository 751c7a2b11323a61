package seal

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
)

// VolumeID names one formatting of a data disk.
type VolumeID [16]byte

func (v VolumeID) String() string { return hex.EncodeToString(v[:]) }

// headerBytes is what the header takes at the start of the disk; the encrypted
// volume begins at payloadOffset.
const (
	headerBytes   = 4 << 10
	payloadOffset = 1 << 20
)

// headerVersion 1 did not say who had sealed the key, 2 held no authorizations,
// and 3 stood before volumes without tags. An image that reads 4 could not open
// such a volume: its key is sealed to the image that made it
// (docs/decisions/0068).
const headerVersion = 4

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
}

// context is what the header's encryptions are for: this volume of this claim.
func (h header) context() []byte { return append(append([]byte{}, h.Volume[:]...), h.Claim[:]...) }

// digest names the header without the wrapped key.
func (h header) digest() (attest.Digest, error) {
	h.Sealed = Sealed{}
	body, err := canon.Marshal(h)
	if err != nil {
		return attest.Digest{}, fmt.Errorf("encoding data disk header: %w", err)
	}
	return attest.Sum(append([]byte("shed/volume/2\x00"), body...)), nil
}

var errNoHeader = errors.New("data disk has no header")

func (h header) encode() ([]byte, error) {
	body, err := canon.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encoding data disk header: %w", err)
	}
	b := append([]byte{}, headerMagic[:]...)
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(body))), body...)
	if len(b) > headerBytes {
		return nil, fmt.Errorf("encoding data disk header: %d bytes, at most %d", len(b), headerBytes)
	}
	return append(b, make([]byte, headerBytes-len(b))...), nil
}

// decodeHeader reads the first headerBytes of a disk. The error is errNoHeader
// where there is no magic, attest.ErrMalformed where what follows is bad.
func decodeHeader(b []byte) (header, error) {
	var h header
	const fixed = len(headerMagic) + 4
	if len(b) < fixed || !bytes.Equal(b[:len(headerMagic)], headerMagic[:]) {
		return h, errNoHeader
	}
	n := binary.BigEndian.Uint32(b[len(headerMagic):])
	if int64(n) > int64(len(b)-fixed) {
		return h, fmt.Errorf("%w: data disk header claims %d bytes", attest.ErrMalformed, n)
	}
	if err := canon.Unmarshal("data disk header", b[fixed:fixed+int(n)], headerBytes, &h); err != nil {
		return h, err
	}
	if h.Version != headerVersion {
		return h, fmt.Errorf("%w: data disk header has version %d, want %d", attest.ErrMalformed, h.Version, headerVersion)
	}
	return h, nil
}

func readHeader(disk io.ReaderAt) (header, error) {
	b := make([]byte, headerBytes)
	if _, err := disk.ReadAt(b, 0); err != nil {
		return header{}, fmt.Errorf("reading data disk header: %w", err)
	}
	return decodeHeader(b)
}

// blankProbe is how much at the start of a disk has to be zero for it to count
// as blank: the header's part and as much again, where every file system and
// partition table begins.
const blankProbe = 2 * payloadOffset

// minDiskBytes is what a header, a journal and the least file system take.
const minDiskBytes = 16 << 20

// blank reports whether nothing was ever written at the start of the disk.
func blank(disk io.ReaderAt) (bool, error) {
	b := make([]byte, blankProbe)
	n, err := disk.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("reading data disk: %w", err)
	}
	for _, c := range b[:n] {
		if c != 0 {
			return false, nil
		}
	}
	return true, nil
}
