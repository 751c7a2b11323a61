// Package verity is how a payload's file system lies on the boot disk and how a
// machine knows it for the release's: its data, dm-verity's tree of hashes behind
// them, and the hash of the tree's root in the measured command line.
//
// Invariants: a block that is not what the root's hash says is an error and never
// data; the tree has no salt and no superblock, so that the same data give the
// same hash, and nothing on the disk says how it is read.
package verity

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
)

// BlockBytes is the size of a block of data and of hashes.
const BlockBytes = 4096

const (
	perBlock = BlockBytes / sha256.Size
	// leastDataBytes are those of which there is a tree: the root of one block
	// is its own hash.
	leastDataBytes = 2 * BlockBytes
	// maxDataBytes is above what an image's disk holds.
	maxDataBytes = 1 << 40
	// parameter names it on the command line.
	parameter = "shed.payload="
)

// ErrRoot says that a command line, or a file, names no root of a payload.
var ErrRoot = errors.New("unusable payload root")

// Root is a file system and the hash by which it is known.
type Root struct {
	Hash      attest.Digest
	DataBytes int64
}

// Parameter is what the measured command line says of it.
func (r Root) Parameter() string {
	return parameter + r.Hash.String() + ":" + strconv.FormatInt(r.DataBytes, 10)
}

// Parse reads a command line. It answers nil where that names no root; the error
// is ErrRoot.
func Parse(commandLine string) (*Root, error) {
	var found *Root
	for word := range strings.FieldsSeq(commandLine) {
		text, ok := strings.CutPrefix(word, parameter)
		if !ok {
			continue
		}
		hash, size, _ := strings.Cut(text, ":")
		r := Root{}
		n, err := strconv.ParseInt(size, 10, 64)
		if err == nil {
			err = r.Hash.UnmarshalText([]byte(hash))
		}
		r.DataBytes = n
		if err != nil || found != nil || r.Parameter() != word || !r.valid() {
			return nil, fmt.Errorf("%w: the command line says %.120q", ErrRoot, word)
		}
		found = &r
	}
	return found, nil
}

func (r Root) valid() bool {
	return !r.Hash.IsZero() && r.DataBytes >= leastDataBytes && r.DataBytes <= maxDataBytes && r.DataBytes%BlockBytes == 0
}

// FileName is the file's on the EFI system partition. Two payloads have two names,
// so that an update writes its own beside the one that runs.
func (r Root) FileName() string {
	return "SHED/" + strings.ToUpper(r.Hash.String()[:8]) + ".IMG"
}

// TreeBytes is the length of the tree behind the data.
func (r Root) TreeBytes() int64 {
	total := int64(0)
	for blocks := r.DataBytes / BlockBytes; blocks > 1; {
		blocks = (blocks + perBlock - 1) / perBlock
		total += blocks * BlockBytes
	}
	return total
}

// Bytes is the length of the file.
func (r Root) Bytes() int64 { return r.DataBytes + r.TreeBytes() }

// Table are the parameters of dm-verity (Linux, Documentation/admin-guide/
// device-mapper/verity.rst) for data and tree on one device. A block that does
// not fit its hash is an error of reading.
func (r Root) Table(device string) string {
	blocks := r.DataBytes / BlockBytes
	return fmt.Sprintf("1 %s %s %d %d %d %d sha256 %s -", device, device, BlockBytes, BlockBytes, blocks, blocks, r.Hash)
}

// Tree reads data, which are blocks, and makes the tree of hashes: the level that
// is nearest the root comes first. Errors are the reader's and ErrRoot.
func Tree(data io.Reader) (Root, []byte, error) {
	var r Root
	level, err := r.leaves(data)
	if err != nil {
		return Root{}, nil, err
	}
	tree := pad(level)
	for len(level) > sha256.Size*perBlock {
		level = hashes(pad(level))
		tree = append(pad(level), tree...)
	}
	r.Hash = sha256.Sum256(pad(level))
	return r, tree, nil
}

// leaves are the hashes of the data's blocks.
func (r *Root) leaves(data io.Reader) (level []byte, err error) {
	block := make([]byte, BlockBytes)
	for {
		n, err := io.ReadFull(data, block)
		if errors.Is(err, io.EOF) {
			break
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fmt.Errorf("%w: %d bytes behind the last block", ErrRoot, n)
		}
		if err != nil {
			return nil, fmt.Errorf("hashing the payload's root: %w", err)
		}
		sum := sha256.Sum256(block)
		level = append(level, sum[:]...)
		r.DataBytes += BlockBytes
	}
	if r.DataBytes < leastDataBytes || r.DataBytes > maxDataBytes {
		return nil, fmt.Errorf("%w: %d bytes", ErrRoot, r.DataBytes)
	}
	return level, nil
}

// hashes are those of the blocks of a level.
func hashes(level []byte) (next []byte) {
	for i := 0; i < len(level); i += BlockBytes {
		sum := sha256.Sum256(level[i : i+BlockBytes])
		next = append(next, sum[:]...)
	}
	return next
}

// pad fills the last block with zeros.
func pad(level []byte) []byte {
	return append(bytes.Clone(level), make([]byte, (BlockBytes-len(level)%BlockBytes)%BlockBytes)...)
}
